// Schedules: which step of a plan is in force, turning the cached keys when it rises, and what a saved state says of it.

#include "llama-context.h"
#include "llama-impl.h"
#include "llama-io.h"
#include "llama-kv-cache.h"
#include "llama-kv-cache-iswa.h"
#include "llama-kv-cache-windows.h"
#include "llama-model.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>

//
// turning the cached keys of one cache from one step to another
//

class llm_graph_input_plan_step : public llm_graph_input_i {
public:
    llm_graph_input_plan_step(const llama_plan_runtime & runtime, const llama_kv_cache * kv, uint32_t from, uint32_t to) : runtime(runtime), kv(kv), from(from), to(to) {}

    void set_input(const llama_ubatch * ubatch) override {
        GGML_UNUSED(ubatch);

        const llama_plan & plan = *runtime.plan;

        // a factor that turns by theta/f_to - theta/f_from; where that is nothing, the pair stands still
        std::vector<float> delta(plan.n_pairs);
        for (uint32_t i = 0; i < plan.n_pairs; ++i) {
            const double d = 1.0/plan.factors(to)[i] - 1.0/plan.factors(from)[i];
            delta[i] = std::fabs(d) < 1e-30 ? 1e30f : (float) (1.0/d);
        }
        std::vector<float> lo;
        std::vector<float> hi;
        runtime.part(delta.data(), lo, hi);

        set(by.f.lo, lo.data());
        set(by.f.hi, hi.data());
        kv->set_input_k_pos(by.pos, by.pos_mapped, plan);
    }

    llama_plan_runtime::turn by;

private:
    static void set(ggml_tensor * t, const void * data) {
        if (t && t->buffer) {
            ggml_backend_tensor_set(t, data, 0, ggml_nbytes(t));
        }
    }

    const llama_plan_runtime & runtime;

    const llama_kv_cache * kv;

    const uint32_t from;
    const uint32_t to;
};

void llama_kv_cache::set_input_k_pos(ggml_tensor * pos, ggml_tensor * pos_mapped, const llama_plan & plan) const {
    std::vector<int32_t> data(ggml_nelements(pos), 0);
    for (uint32_t s = 0; s < n_stream; ++s) {
        const auto & cells = v_cells[s];
        for (uint32_t i = 0; i < cells.size(); ++i) {
            if (!cells.is_empty(i)) {
                data[(size_t) s*cells.size() + i] = cells.pos_get(i);
            }
        }
    }
    ggml_backend_tensor_set(pos, data.data(), 0, ggml_nbytes(pos));

    if (pos_mapped) {
        for (auto & p : data) {
            p = plan.map_position(p);
        }
        ggml_backend_tensor_set(pos_mapped, data.data(), 0, ggml_nbytes(pos_mapped));
    }
}

bool llama_kv_cache::can_turn_keys() const {
    return !other && std::none_of(layers.begin(), layers.end(), [](const kv_layer & layer) { return ggml_is_quantized(layer.k->type); });
}

ggml_cgraph * llama_kv_cache::build_graph_plan_step(llm_graph_result * res, llama_context * lctx, uint32_t to) const {
    auto * ctx = res->get_ctx();
    auto * gf  = res->get_gf();

    const auto & cparams = lctx->get_cparams();
    const auto & runtime = *cparams.plan;
    const auto & plan    = *runtime.plan;

    auto inp = std::make_unique<llm_graph_input_plan_step>(runtime, this, runtime.step, to);

    const auto new_input = [&](ggml_type type, int64_t n) {
        ggml_tensor * t = ggml_new_tensor_1d(ctx, type, n);
        ggml_set_input(t);
        return t;
    };
    const int64_t n_cells = (int64_t) get_size()*n_stream;

    auto & by = inp->by;
    by.pos  = new_input(GGML_TYPE_I32, n_cells);
    by.f.lo = new_input(GGML_TYPE_F32, plan.n_pairs);
    if (plan.maps_positions()) {
        by.pos_mapped = new_input(GGML_TYPE_I32, n_cells);
        by.f.hi       = new_input(GGML_TYPE_F32, plan.n_pairs);
    }
    by.attention_factor = runtime.rope_factor(to)/runtime.rope_factor(runtime.step);

    for (const auto & layer : layers) {
        const uint32_t il = layer.il;
        if (!runtime.rotates(il) || !runtime.has_rotated(il)) {
            continue;
        }
        const auto n_rot         = hparams.n_rot(il);
        const auto n_embd_head_k = hparams.n_embd_head_k(il);
        const auto n_embd_nope   = hparams.n_lora_kv > 0 ? n_embd_head_k - n_rot : 0;

        ggml_tensor * k = ggml_view_3d(ctx, layer.k, n_rot, hparams.n_head_kv(il), n_cells,
                ggml_row_size(layer.k->type, n_embd_head_k),
                ggml_row_size(layer.k->type, hparams.n_embd_k_gqa(il)),
                ggml_row_size(layer.k->type, n_embd_nope));

        ggml_build_forward_expand(gf, llama_plan_runtime::build_turn(ctx, k, by, n_rot, hparams.rope_type, model.get_rope_freq_base(cparams, il)));
    }
    res->add_input(std::move(inp));

    return gf;
}

//
// llama_context: the step in force
//

// a cache with one stream takes every sequence id, whatever n_seq_max
static uint32_t plan_n_seqs(const llama_cparams & cparams) {
    return cparams.kv_unified || cparams.n_seq_max == 1 ? LLAMA_MAX_SEQ : cparams.n_seq_max;
}

bool llama_context::plan_memory_empty() const {
    const uint32_t n_seqs = plan_n_seqs(cparams);
    for (uint32_t s = 0; memory && s < n_seqs; ++s) {
        if (memory->seq_pos_max(s) >= 0) {
            return false;
        }
    }
    return true;
}

bool llama_context::plan_is_sound() {
    if (!plan->broken.empty() && plan_memory_empty()) {
        plan->broken.clear();
    }
    if (!plan->broken.empty()) {
        llama_plan_set_error(plan->broken);
    }
    return plan->broken.empty();
}

bool llama_context::plan_set_step(uint32_t step) {
    if (step == plan->step) {
        return true;
    }
    synchronize();

    std::vector<const llama_kv_cache *> caches;
    if (!plan_memory_empty()) {
        if (const auto * iswa = dynamic_cast<const llama_kv_cache_iswa *>(memory.get())) {
            caches = { iswa->get_base(), iswa->get_swa() };
        } else if (const auto * windows = dynamic_cast<const llama_kv_cache_windows *>(memory.get())) {
            for (size_t i = 0; i < windows->n_groups(); ++i) {
                caches.push_back(windows->get_group(i));
            }
        } else {
            caches = { dynamic_cast<const llama_kv_cache *>(memory.get()) };
        }
    }
    for (const auto * kv : caches) {
        if (!kv->can_turn_keys()) {
            llama_plan_set_error("the context got longer than its plan's factors in force are for, and quantized keys cannot be turned to others: reserve the length first, or use F16 keys");
            return false;
        }
    }

    // the attention factor is part of a graph: none made before may be used again
    for (auto & res : gf_res_prev) {
        if (res) {
            res->reset();
        }
    }
    gf_res_prev_active = nullptr;

    for (const auto * kv : caches) {
        ggml_backend_sched_reset(sched.get());

        auto * res = get_gf_res_reserve();
        res->reset();

        auto * gf = kv->build_graph_plan_step(res, this, step);
        if (ggml_graph_n_nodes(gf) == 0) {
            continue;
        }
        const bool placed = ggml_backend_sched_alloc_graph(sched.get(), gf);
        if (!placed && kv == caches.front()) {
            llama_plan_set_error("there is no memory to turn the cached keys to the plan's next factors");
            return false;
        }
        if (placed) {
            res->set_inputs(nullptr);
        }
        if (!placed || graph_compute(gf, false) != GGML_STATUS_SUCCESS) {
            plan->broken = "turning the cached keys to the plan's next factors stopped half-way: clear the memory and read the text again";
            return plan_is_sound();
        }
        synchronize();
    }

    LLAMA_LOG_DEBUG("%s: the plan's factors for %u tokens are in force\n", __func__, plan->plan->step_lengths[step]);
    plan->set_step(step);

    if (!caches.empty()) {
        try {
            sched_need_reserve = true; // the scheduler has another graph's allocation
            sched_reserve();
        } catch (const std::exception & err) {
            llama_plan_set_error(std::string("there is no memory to go on after the cached keys were turned: ") + err.what());
            return false;
        }
    }
    return true;
}

bool llama_context::plan_advance() {
    if (!plan || plan->plan->step_lengths.size() < 2) {
        return true;
    }
    if (!plan_is_sound()) {
        return false;
    }
    const uint32_t n_seqs = plan_n_seqs(cparams);

    llama_pos last = -1;
    for (uint32_t s = 0; s < n_seqs; ++s) {
        last = std::max({ last, balloc->seq_pos_max(s), memory ? memory->seq_pos_max(s) : -1 });
    }
    const uint32_t step = plan->plan->step_for(std::max<uint32_t>(last + 1, plan->reserved));

    return plan_memory_empty() || step > plan->step ? plan_set_step(step) : true;
}

int32_t llama_context::plan_reserve(uint32_t n_tokens) {
    if (!plan || plan->plan->step_lengths.size() < 2) {
        return 0; // one set of factors is in force whatever the length
    }
    if (!plan_is_sound()) {
        return -1;
    }
    memory_update(false); // a pending shift turns keys by the factors that are in force now

    const uint32_t step = plan->plan->step_for(n_tokens);
    if ((plan_memory_empty() || step > plan->step) && !plan_set_step(step)) {
        return -1;
    }
    plan->reserved = n_tokens;
    return 0;
}

uint32_t llama_context::plan_length() const {
    return plan && !plan->plan->step_lengths.empty() ? plan->plan->step_lengths[plan->step] : 0;
}

int32_t llama_context_plan_reserve(llama_context * ctx, uint32_t n_tokens) {
    llama_plan_set_error("");
    return ctx->plan_reserve(n_tokens);
}

uint32_t llama_context_plan_length(const llama_context * ctx) {
    return ctx->plan_length();
}

//
// state: keys are those of a plan and a step, and worth nothing under another
//

namespace {

struct plan_state {
    uint32_t magic   = 0x4c505752; // "RWPL"
    uint32_t version = 1;
    uint64_t hash    = 0;
    uint32_t step    = 0;
    uint32_t unused  = 0;
};

} // namespace

void llama_context::plan_state_write(llama_io_write_i & io) {
    if (!plan) {
        return;
    }
    memory_update(false); // keys are saved at their new positions, so a pending shift has to be done
    if (plan->plan->native) {
        return; // upstream's format
    }
    if (!plan_is_sound()) {
        llama_plan_refuse(plan->broken);
    }
    plan_state state;
    state.hash = plan->plan->hash();
    state.step = plan->step;
    io.write(&state, sizeof(state));
}

void llama_context::plan_state_read(llama_io_read_i & io, llama_seq_id seq_id, llama_state_seq_flags flags) {
    if (!plan) {
        return;
    }
    memory_update(false); // a pending copy between streams would overwrite what is read
    if (plan->plan->native) {
        return;
    }
    const plan_state own;

    plan_state state;
    io.read(&state, sizeof(state));
    if (state.magic != own.magic || state.version != own.version || state.hash != plan->plan->hash()) {
        llama_plan_refuse("the saved state was computed under another context plan than this context has: read the text again");
    }
    if (plan->plan->step_lengths.empty()) {
        return;
    }
    if (state.step >= plan->plan->step_lengths.size()) {
        llama_plan_refuse("the saved state names a step that the context plan does not have");
    }
    if (seq_id == -1) {
        memory->clear(true); // as reading a whole state does
    } else if ((state.step != plan->step || !plan->broken.empty()) && (flags & LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY) == 0) {
        memory->seq_rm(seq_id, -1, -1); // as reading a sequence does: keys about to go need not be turned, nor whole
    }
    if (!plan_is_sound()) {
        llama_plan_refuse(plan->broken);
    }
    if (state.step < plan->step && !plan_memory_empty()) {
        llama_plan_refuse("the saved state was computed under factors for shorter texts than are in force now: reserve their length before it is computed");
    }
    if (!plan_set_step(state.step)) {
        throw std::runtime_error("the context plan's step of the saved state cannot be put in force");
    }
}
