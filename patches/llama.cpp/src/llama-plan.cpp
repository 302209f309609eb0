#include "llama-plan.h"

#include "llama-hparams.h"
#include "llama-impl.h"
#include "llama-model.h"

#include "gguf.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

static thread_local std::string plan_error;

void llama_plan_set_error(const std::string & reason) {
    plan_error = reason;
}

void llama_plan_refuse(const std::string & reason) {
    plan_error = reason;
    throw std::runtime_error(reason);
}

//
// llama_plan
//

template <typename T>
static std::vector<T> plan_list(const T * data, size_t n, const char * name) {
    if (n > 0 && data == nullptr) {
        llama_plan_refuse(format("the context plan's %s are missing", name));
    }
    return n > 0 ? std::vector<T>(data, data + n) : std::vector<T>();
}

llama_plan::llama_plan(const llama_context_plan_params & p) :
    native                (p.native != 0),
    train_length          (p.train_length),
    target_length         (p.target_length),
    n_pairs               (p.n_pairs),
    step_lengths          (plan_list(p.step_lengths,           p.n_steps,                     "schedule lengths")),
    step_factors          (plan_list(p.step_factors,           (size_t) p.n_steps*p.n_pairs,  "schedule factors")),
    step_attention_factors(plan_list(p.step_attention_factors, p.n_steps,                     "schedule attention factors")),
    rope_layers           (plan_list(p.rope_layers,            p.n_rope_layers,               "layers")),
    position_kind         (p.position_kind),
    position_period       (p.position_period),
    position_first_pair   (p.position_first_pair),
    logn_length           (p.logn_length),
    windows               (plan_list(p.windows,                p.n_windows,                   "windows")),
    n_sinks               (p.n_sinks),
    streaming             (p.streaming != 0),
    method                (p.method  ? p.method  : ""),
    options               (p.options ? p.options : "") {
    if (p.schema == 0 || p.schema > LLAMA_CONTEXT_PLAN_SCHEMA) {
        llama_plan_refuse(format("the context plan has schema %u, and this library reads up to %u: use a newer one", p.schema, LLAMA_CONTEXT_PLAN_SCHEMA));
    }
    if (train_length == 0 || target_length < train_length || target_length > INT32_MAX) {
        llama_plan_refuse(format("the context plan extends %u tokens to %u, which is no extension", train_length, target_length));
    }
    for (size_t i = 0; i < step_lengths.size(); ++i) {
        if (step_lengths[i] == 0 || (i > 0 && step_lengths[i] <= step_lengths[i - 1])) {
            llama_plan_refuse("the context plan's schedule lengths do not rise");
        }
    }
    if (!step_lengths.empty() && (n_pairs == 0 || step_lengths.back() != target_length)) {
        llama_plan_refuse("the context plan's schedule has no factors or does not end at its target length");
    }
    // beyond these an F32 angle or score stops being a number
    for (const float f : step_factors) {
        if (!(f >= 1e-6f && f <= 1e30f)) {
            llama_plan_refuse(format("the context plan has a frequency factor of %g, which must be from 1e-6 to 1e30", (double) f));
        }
    }
    for (const float f : step_attention_factors) {
        if (!(f >= 1e-6f && f <= 1e6f)) {
            llama_plan_refuse(format("the context plan has an attention factor of %g, which must be from 1e-6 to 1e6", (double) f));
        }
    }
    switch (position_kind) {
        case LLAMA_CONTEXT_PLAN_POSITION_IDENTITY:
            break;
        case LLAMA_CONTEXT_PLAN_POSITION_PERIODIC:
        case LLAMA_CONTEXT_PLAN_POSITION_MIRRORED:
            if (position_period < 2 || position_period > INT32_MAX || (position_kind == LLAMA_CONTEXT_PLAN_POSITION_MIRRORED && position_period % 2 != 0)) {
                llama_plan_refuse(format("the context plan maps positions with a period of %u, which must be at least 2, and even when mirrored", position_period));
            }
            if (step_lengths.empty() || position_first_pair >= n_pairs) {
                llama_plan_refuse(format("the context plan maps positions from pair %u on, but has %u pairs", position_first_pair, n_pairs));
            }
            break;
        default:
            llama_plan_refuse(format("the context plan has a position map of unknown kind %u", position_kind));
    }
    if (n_sinks > 0 && !has_windows()) {
        llama_plan_refuse(format("the context plan has %u sinks, but no layer has a window", n_sinks));
    }
    for (const uint32_t w : windows) {
        if (w > INT32_MAX/16 || n_sinks > INT32_MAX/16) {
            llama_plan_refuse(format("the context plan has a window of %u tokens and %u sinks, which must be at most %d", w, n_sinks, INT32_MAX/16));
        }
    }
    if (streaming) {
        if (windows.empty() || std::count(windows.begin(), windows.end(), 0u) > 0) {
            llama_plan_refuse("the context plan streams, but not every layer has a window");
        }
        if (step_lengths.size() != 1 || !rope_layers.empty()) {
            llama_plan_refuse("the context plan streams, for which it has to state one list of factors for every layer");
        }
        if (maps_positions() || logn_length > 0) {
            llama_plan_refuse("the context plan streams, with which a position map or LogN does not go together: they count from the text's beginning");
        }
    }
    if (logn_length == 1 || logn_length > INT32_MAX) {
        llama_plan_refuse(format("the context plan's LogN length is %u, which must be 0 (off) or from 2 to 2147483647", logn_length));
    }
}

llama_context_plan_params llama_plan::view() const {
    llama_context_plan_params p = {};
    p.schema                 = LLAMA_CONTEXT_PLAN_SCHEMA;
    p.native                 = native;
    p.train_length           = train_length;
    p.target_length          = target_length;
    p.n_steps                = step_lengths.size();
    p.n_pairs                = n_pairs;
    p.n_rope_layers          = rope_layers.size();
    p.position_kind          = position_kind;
    p.position_period        = position_period;
    p.position_first_pair    = position_first_pair;
    p.logn_length            = logn_length;
    p.n_windows              = windows.size();
    p.n_sinks                = n_sinks;
    p.streaming              = streaming;
    p.method                 = method.c_str();
    p.options                = options.c_str();
    p.step_lengths           = step_lengths.data();
    p.step_factors           = step_factors.data();
    p.step_attention_factors = step_attention_factors.data();
    p.rope_layers            = rope_layers.data();
    p.windows                = windows.data();
    return p;
}

uint64_t llama_plan::hash() const {
    uint64_t h = 0xcbf29ce484222325ull; // FNV-1a
    const auto add = [&h](const void * data, size_t size) {
        for (size_t i = 0; i < size; ++i) {
            h = (h ^ ((const uint8_t *) data)[i])*0x100000001b3ull;
        }
    };
    const auto add_list = [&add](const auto & list) {
        const uint64_t n = list.size();
        add(&n, sizeof(n));
        add(list.data(), n*sizeof(list[0]));
    };
    add_list(step_lengths);
    add_list(step_factors);
    add_list(step_attention_factors);
    add_list(rope_layers);
    add_list(windows);
    const uint32_t rest[] = { train_length, target_length, position_kind, position_period, position_first_pair, logn_length, n_sinks, streaming };
    add(rest, sizeof(rest));
    return h;
}

uint32_t llama_plan::step_for(uint32_t n_tokens) const {
    const auto it = std::lower_bound(step_lengths.begin(), step_lengths.end(), n_tokens);
    return it == step_lengths.end() ? (uint32_t) step_lengths.size() - 1 : (uint32_t) (it - step_lengths.begin());
}

bool llama_plan::has_windows() const {
    return std::any_of(windows.begin(), windows.end(), [](uint32_t w) { return w > 0; });
}

int32_t llama_plan::map_position(int32_t pos) const {
    const int32_t period = (int32_t) position_period;
    const int32_t q      = pos % period;
    switch (position_kind) {
        case LLAMA_CONTEXT_PLAN_POSITION_PERIODIC: return q;
        case LLAMA_CONTEXT_PLAN_POSITION_MIRRORED: return q < period/2 ? q : period - q;
        default:                                   return pos;
    }
}

float llama_plan::logn_scale(int32_t pos) const {
    return pos < (int32_t) logn_length ? 1.0f : (float) (std::log((double) pos + 1.0)/std::log((double) logn_length));
}

//
// metadata
//

namespace {

// The `ropewalk.*` keys of a file. An absent key leaves the default; one of another type is refused by name.
struct plan_keys {
    const gguf_context * meta;

    int64_t find(const std::string & name, gguf_type type, gguf_type element = GGUF_TYPE_COUNT) const {
        const std::string key = "ropewalk." + name;
        const int64_t id = gguf_find_key(meta, key.c_str());
        if (id < 0) {
            return -1;
        }
        if (gguf_get_kv_type(meta, id) != type || (type == GGUF_TYPE_ARRAY && gguf_get_arr_type(meta, id) != element)) {
            llama_plan_refuse(format("the file's key %s is not of the type that a context plan has there", key.c_str()));
        }
        return id;
    }

    uint32_t u32(const char * name) const {
        const int64_t id = find(name, GGUF_TYPE_UINT32);
        return id < 0 ? 0 : gguf_get_val_u32(meta, id);
    }

    bool flag(const char * name) const {
        const int64_t id = find(name, GGUF_TYPE_BOOL);
        return id >= 0 && gguf_get_val_bool(meta, id);
    }

    const char * str(const char * name) const {
        const int64_t id = find(name, GGUF_TYPE_STRING);
        return id < 0 ? "" : gguf_get_val_str(meta, id);
    }

    template <typename T>
    const T * list(const char * name, gguf_type element, uint32_t & n) const {
        const int64_t id = find(name, GGUF_TYPE_ARRAY, element);
        n = id < 0 ? 0 : (uint32_t) gguf_get_arr_n(meta, id);
        return n > 0 ? (const T *) gguf_get_arr_data(meta, id) : nullptr;
    }
};

} // namespace

static uint32_t position_kind_from_string(const std::string & name) {
    if (name.empty() || name == "identity") {
        return LLAMA_CONTEXT_PLAN_POSITION_IDENTITY;
    }
    if (name == "periodic") {
        return LLAMA_CONTEXT_PLAN_POSITION_PERIODIC;
    }
    if (name == "mirrored") {
        return LLAMA_CONTEXT_PLAN_POSITION_MIRRORED;
    }
    llama_plan_refuse("the file's key ropewalk.position.kind is " + name + ", which is none of identity, periodic, mirrored");
}

static std::shared_ptr<const llama_plan> plan_from_metadata(const gguf_context * meta) {
    const plan_keys keys = { meta };

    if (keys.find("schema", GGUF_TYPE_UINT32) < 0) {
        return nullptr;
    }

    llama_context_plan_params p = {};

    uint32_t n_factors           = 0;
    uint32_t n_attention_factors = 0;

    p.schema                 = keys.u32 ("schema");
    p.native                 = keys.flag("native");
    p.method                 = keys.str ("method");
    p.options                = keys.str ("options");
    p.train_length           = keys.u32 ("train_length");
    p.target_length          = keys.u32 ("target_length");
    p.step_lengths           = keys.list<uint32_t>("rope.schedule_lengths",           GGUF_TYPE_UINT32,  p.n_steps);
    p.step_factors           = keys.list<float>   ("rope.schedule_factors",           GGUF_TYPE_FLOAT32, n_factors);
    p.step_attention_factors = keys.list<float>   ("rope.schedule_attention_factors", GGUF_TYPE_FLOAT32, n_attention_factors);
    p.rope_layers            = keys.list<uint32_t>("rope.layers",                     GGUF_TYPE_UINT32,  p.n_rope_layers);
    p.position_kind          = position_kind_from_string(keys.str("position.kind"));
    p.position_period        = keys.u32 ("position.period");
    p.position_first_pair    = keys.u32 ("position.first_pair");
    p.logn_length            = keys.u32 ("logn.length");
    p.windows                = keys.list<uint32_t>("attention.windows",               GGUF_TYPE_UINT32,  p.n_windows);
    p.n_sinks                = keys.u32 ("attention.sinks");
    p.streaming              = keys.flag("attention.streaming");

    if (p.schema > LLAMA_CONTEXT_PLAN_SCHEMA) {
        // said before the lists are judged: a newer schema may shape them otherwise
        llama_plan_refuse(format("the file's context plan has schema %u, and this library reads up to %u: use a newer one", p.schema, LLAMA_CONTEXT_PLAN_SCHEMA));
    }
    if (n_attention_factors != p.n_steps || (p.n_steps > 0 ? n_factors % p.n_steps : n_factors) != 0) {
        llama_plan_refuse("the file's context plan has schedule lists whose sizes do not belong together");
    }
    p.n_pairs = p.n_steps > 0 ? n_factors/p.n_steps : 0;

    return std::make_shared<const llama_plan>(p);
}

//
// llama_plan_slot
//

// Refuses, by name, what this model or this release cannot execute. What only the graph can tell is refused when a context is made.
static void plan_check(const llama_plan & plan, const std::string & arch, const llama_hparams & hparams) {
    const char * name = arch.c_str();

    if (hparams.rope_type == LLAMA_ROPE_TYPE_NONE) {
        llama_plan_refuse(format("the architecture %s does not rotate its positions, so it cannot carry a context plan", name));
    }
    if (plan.native) {
        return;
    }
    if (plan.step_lengths.size() > 1 && hparams.n_pos_per_embd() > 1) {
        llama_plan_refuse(format("the context plan changes its factors with the length, which the several positions of a token in %s do not allow: bake a static method", name));
    }
    if (plan.has_windows()) {
        if (hparams.n_pos_per_embd() > 1) {
            llama_plan_refuse(format("the context plan has attention windows, which the several positions of a token in %s do not allow: bake a method without them", name));
        }
        if (hparams.is_swa_any() || arch == "dflash") {
            llama_plan_refuse(format("the context plan has attention windows, but %s has windows of its own: bake a method without them", name));
        }
    }
    if (!plan.windows.empty() && plan.windows.size() != hparams.n_layer() && plan.windows.size() != hparams.n_layer_all) {
        llama_plan_refuse(format("the context plan has windows for %zu layers, but the model has %u", plan.windows.size(), hparams.n_layer()));
    }
    if (!plan.step_lengths.empty() && plan.n_pairs != hparams.n_rot_full/2) {
        llama_plan_refuse(format("the context plan has factors for %u pairs, but the model rotates %u", plan.n_pairs, hparams.n_rot_full/2));
    }
    for (const uint32_t il : plan.rope_layers) {
        if (il >= hparams.n_layer_all) {
            llama_plan_refuse(format("the context plan names layer %u, but the model has %u", il, hparams.n_layer_all));
        }
    }
}

void llama_plan_slot::set(std::shared_ptr<const llama_plan> next, const std::string & arch, llama_hparams & hparams) {
    if (next) {
        plan_check(*next, arch, hparams);
    }
    plan = std::move(next);
    hparams.n_ctx_train = plan && !plan->native ? plan->target_length : n_ctx_train_own;
}

uint32_t llama_plan_slot::n_swa(uint32_t own) const {
    return plan && !plan->native && plan->has_windows() ? *std::max_element(plan->windows.begin(), plan->windows.end()) : own;
}

void llama_plan_slot::load(const gguf_context * meta, const std::string & arch, llama_hparams & hparams) {
    plan_error.clear();
    n_ctx_train_own = hparams.n_ctx_train;
    set(meta ? plan_from_metadata(meta) : nullptr, arch, hparams);
    if (plan) {
        LLAMA_LOG_INFO("%s: context plan %s: %u -> %u tokens%s\n", __func__,
                plan->method.c_str(), plan->train_length, plan->target_length, plan->native ? " (by the model's own keys)" : "");
    }
}

//
// C API
//

const char * llama_context_plan_build(void) {
    return LLAMA_CONTEXT_PLAN_BUILD;
}

uint32_t llama_context_plan_schema(void) {
    return LLAMA_CONTEXT_PLAN_SCHEMA;
}

bool llama_model_plan_get(const llama_model * model, llama_context_plan_params * plan) {
    if (!model || !plan || !model->plan.plan) {
        return false;
    }
    *plan = model->plan.plan->view();
    return true;
}

int32_t llama_model_plan_set(llama_model * model, const llama_context_plan_params * plan) {
    plan_error.clear();
    try {
        if (!model) {
            llama_plan_refuse("there is no model to set a context plan on");
        }
        if (plan && plan->native) {
            llama_plan_refuse("a native context plan is executed by the file's own keys and cannot be set on a loaded model");
        }
        model->plan.set(plan ? std::make_shared<const llama_plan>(*plan) : nullptr, model->arch_name(), model->hparams);
    } catch (const std::exception & err) {
        LLAMA_LOG_ERROR("%s: %s\n", __func__, err.what());
        return -1;
    }
    return 0;
}

const char * llama_context_plan_last_error(void) {
    static thread_local std::string shown;
    shown.swap(plan_error);
    plan_error.clear();
    return shown.c_str();
}
