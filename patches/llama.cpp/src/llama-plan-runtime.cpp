#include "llama-plan-runtime.h"

#include "llama-context.h"
#include "llama-cparams.h"
#include "llama-graph.h"
#include "llama-hparams.h"
#include "llama-impl.h"
#include "llama-kv-cache.h"
#include "llama-kv-cache-iswa.h"
#include "llama-kv-cache-windows.h"
#include "llama-model.h"

#include "ggml.h"

#include <algorithm>
#include <cmath>
#include <cstring>

// A pair whose factor is this does not turn: its angle at any position is below what F32 resolves next to 1.
// Finite, because some backends are compiled for finite mathematics only.
static constexpr float PLAN_STILL = 1e30f;

//
// making the runtime
//

std::unique_ptr<llama_plan_runtime> llama_plan_runtime::make(const llama_model & model, llama_context * lctx) {
    const auto plan = model.plan.plan;

    llama_plan_set_error("");

    if (plan && plan->native) {
        return make_native(model, lctx);
    }
    if (!plan || model.hparams.vocab_only || (plan->step_lengths.empty() && plan->logn_length == 0 && !plan->has_windows())) {
        return nullptr;
    }
    return std::unique_ptr<llama_plan_runtime>(new llama_plan_runtime(model, lctx, plan));
}

std::unique_ptr<llama_plan_runtime> llama_plan_runtime::make_native(const llama_model & model, llama_context * lctx) {
    const auto & cparams = lctx->get_cparams();

    const float ramp = cparams.yarn_ext_factor != 0.0f ? 1.0f + 0.1f*std::log(1.0f/cparams.rope_freq_scale) : 1.0f;
    if (model.hparams.vocab_only || cparams.yarn_attn_factor*ramp == 1.0f) {
        return nullptr;
    }
    auto plan = std::make_shared<llama_plan>(*model.plan.plan);
    plan->step_lengths.clear();
    plan->step_factors.clear();
    plan->step_attention_factors.clear();
    plan->rope_layers.clear();
    plan->position_kind = LLAMA_CONTEXT_PLAN_POSITION_IDENTITY;
    plan->logn_length   = 0;
    plan->windows.clear();
    plan->streaming     = false;
    return std::unique_ptr<llama_plan_runtime>(new llama_plan_runtime(model, lctx, plan));
}

llama_plan_runtime::llama_plan_runtime(const llama_model & model, llama_context * lctx, std::shared_ptr<const llama_plan> plan) :
    lctx(lctx), plan(std::move(plan)), model(model), hparams(model.hparams), layers(hparams.n_layer_all), rotated(hparams.n_layer_all) {
    const auto & p = *this->plan;

    if (p.logn_length > 0 && (model.arch == LLM_ARCH_MINIMAX_M3 || model.arch == LLM_ARCH_GLM5_NEXT)) {
        llama_plan_refuse(format("the architecture %s attends in a way of its own, which LogN does not reach: bake a method without it", model.arch_name().c_str()));
    }
    if (p.step_lengths.empty()) {
        return;
    }

    const bool mapped = p.maps_positions();

    // a rotation of a part of a head reads a factor for every pair of the head, though it uses those of the part
    uint32_t n_pairs = p.n_pairs;
    for (uint32_t il = 0; il < hparams.n_layer_all; ++il) {
        n_pairs = std::max({ n_pairs, hparams.n_embd_head_k(il)/2, hparams.n_embd_head_k_mla()/2 });
    }

    std::map<ggml_backend_buffer_type_t, factors> by_buft;

    for (uint32_t il = 0; il < hparams.n_layer_all; ++il) {
        ggml_backend_buffer_type_t buft = model.select_buft(il);

        auto it = by_buft.find(buft);
        if (it == by_buft.end()) {
            ggml_context_ptr ctx { ggml_init({ 2*ggml_tensor_overhead(), nullptr, /*.no_alloc =*/ true }) };
            if (!ctx) {
                llama_plan_refuse("there is no memory for the context plan's factors");
            }

            factors f;
            f.lo = ggml_new_tensor_1d(ctx.get(), GGML_TYPE_F32, n_pairs);
            ggml_set_name(f.lo, "plan_factors");
            if (mapped) {
                f.hi = ggml_new_tensor_1d(ctx.get(), GGML_TYPE_F32, n_pairs);
                ggml_set_name(f.hi, "plan_factors_mapped");
            }

            ggml_backend_buffer_ptr buf { hparams.no_alloc ?
                ggml_backend_buft_alloc_buffer(buft, 0) : // memory is only being estimated
                ggml_backend_alloc_ctx_tensors_from_buft(ctx.get(), buft) };
            if (!buf) {
                llama_plan_refuse("there is no memory for the context plan's factors on the device of layer " + std::to_string(il));
            }
            if (hparams.no_alloc) {
                for (ggml_tensor * t = ggml_get_first_tensor(ctx.get()); t != nullptr; t = ggml_get_next_tensor(ctx.get(), t)) {
                    t->buffer = buf.get();
                }
            }

            it = by_buft.emplace(buft, f).first;
            ctxs_bufs.emplace_back(std::move(ctx), std::move(buf));
        }
        layers[il] = it->second;
    }

    set_step(0);
}

void llama_plan_runtime::part(const float * factors, std::vector<float> & lo, std::vector<float> & hi) const {
    lo.assign(factors, factors + plan->n_pairs);
    hi.assign(plan->n_pairs, PLAN_STILL);
    if (plan->maps_positions()) {
        std::swap_ranges(lo.begin() + plan->position_first_pair, lo.end(), hi.begin() + plan->position_first_pair);
    }
}

void llama_plan_runtime::set_step(uint32_t next) {
    step = next;

    if (plan->step_lengths.empty() || hparams.no_alloc) {
        return;
    }
    std::vector<float> lo;
    std::vector<float> hi;
    part(plan->factors(step), lo, hi);

    for (const auto & [ctx, buf] : ctxs_bufs) {
        lo.resize(ggml_get_first_tensor(ctx.get())->ne[0], 1.0f);
        hi.resize(lo.size(), 1.0f);

        for (ggml_tensor * t = ggml_get_first_tensor(ctx.get()); t != nullptr; t = ggml_get_next_tensor(ctx.get(), t)) {
            const bool is_lo = std::any_of(layers.begin(), layers.end(), [t](const factors & f) { return f.lo == t; });
            ggml_backend_tensor_set(t, (is_lo ? lo : hi).data(), 0, ggml_nbytes(t));
        }
    }
}

bool llama_plan_runtime::rotates(int il) const {
    if (plan->step_lengths.empty() || il < 0 || il >= (int) layers.size()) {
        return false;
    }
    if (!plan->rope_layers.empty()) {
        return std::find(plan->rope_layers.begin(), plan->rope_layers.end(), (uint32_t) il) != plan->rope_layers.end();
    }
    return !hparams.is_swa(il);
}

bool llama_plan_runtime::scales(int il) const {
    return plan->logn_length > 0 && il >= 0 && il < (int) layers.size() && il != hparams.router_layer && !hparams.is_swa(il);
}

float llama_plan_runtime::rope_factor(uint32_t step) const {
    return hparams.is_mla() ? 1.0f : attention_factor(step);
}

float llama_plan_runtime::score_factor(int il) const {
    const float f = hparams.is_mla() && rotates(il) ? attention_factor(step) : 1.0f;
    return f*f;
}

llama_pos llama_plan_runtime::stream_block() const {
    if (!plan->streaming) {
        return 0;
    }
    const uint32_t narrowest = *std::min_element(plan->windows.begin(), plan->windows.end());
    return std::clamp<uint32_t>(narrowest/8, 1, 256);
}

llama_pos llama_plan_runtime::stream_period() const {
    const uint32_t widest = *std::max_element(plan->windows.begin(), plan->windows.end());

    // angles stay small, a key is turned once in its life, and all sinks are there when they are first turned
    const uint32_t tokens = std::max(4*widest, plan->n_sinks);
    return (tokens + stream_block() - 1)/stream_block()*stream_block();
}

uint32_t llama_plan_runtime::max_nodes() const {
    return 8*layers.size() + 64;
}

void llama_plan_runtime::refuse(const std::string & reason) const {
    if (refusal.empty()) {
        refusal = reason;
    }
}

void llama_plan_runtime::note_rope(const ggml_tensor * rope, int il) const {
    if (reserving) {
        made.insert(rope);
        if (il >= 0 && il < (int) rotated.size()) {
            rotated[il] = true;
        }
    }
}

void llama_plan_runtime::check_reserved(ggml_cgraph * gf, const llama_memory_i * memory) const {
    const std::string arch = model.arch_name();

    if (windowed() && !dynamic_cast<const llama_kv_cache_windows *>(memory)) {
        refuse("the context plan has attention windows, which the kind of memory of this " + arch + " model does not allow: bake a method without them");
    }
    if (plan->step_lengths.size() > 1 && memory) {
        // the keys of these are turned when the step rises; an iSWA cache has the full layers in its base
        if (!windowed() && !dynamic_cast<const llama_kv_cache *>(memory) && !dynamic_cast<const llama_kv_cache_iswa *>(memory)) {
            refuse("the context plan changes its factors with the length, which the kind of memory of this " + arch + " model does not allow: bake a static method");
        }
    }
    if (plan->step_lengths.size() > 1 || plan->streaming) {
        // in these a norm with weights comes after the rotation, so that a cached key cannot be turned exactly
        if (memory && (model.arch == LLM_ARCH_HUNYUAN_MOE || model.arch == LLM_ARCH_HUNYUAN_VL || model.arch == LLM_ARCH_HUNYUAN_DENSE || model.arch == LLM_ARCH_MAINCODER)) {
            refuse(std::string("the context plan ") + (plan->streaming ? "streams" : "changes its factors with the length") +
                    ", which the normalized keys of " + arch + " do not allow: bake a " + (plan->streaming ? "method without streaming" : "static method"));
        }
    }

    if (!plan->step_lengths.empty()) {
        for (int i = 0; i < ggml_graph_n_nodes(gf); ++i) {
            const ggml_tensor * node = ggml_graph_node(gf, i);
            if ((node->op == GGML_OP_ROPE || node->op == GGML_OP_ROPE_BACK) && made.count(node) == 0) {
                refuse("the architecture " + arch + " rotates in a way that a context plan does not reach");
            }
        }
    }
    if (!plan->step_lengths.empty() && !turned) {
        refuse("no layer of this " + arch + " model both rotates and sees the whole context, so the context plan's factors would change nothing: bake a method without them");
    }
    if (plan->logn_length > 0 && !scaled) {
        refuse("no layer of this " + arch + " model attends to the whole context, so LogN would change nothing: bake a method without it");
    }
    if (windowed() && !limited) {
        refuse("the attention of this " + arch + " model uses no cache, so windows would change nothing: bake a method without them");
    }
    made.clear();
    reserving = false;

    if (!refusal.empty()) {
        llama_plan_refuse(refusal);
    }
}

//
// the graph input: what the plan makes of a batch's positions
//

class llm_graph_input_plan : public llm_graph_input_i {
public:
    llm_graph_input_plan(const llama_plan_runtime * runtime, uint32_t n_pos_per_embd) : runtime(runtime), n_pos_per_embd(n_pos_per_embd) {}

    void set_input(const llama_ubatch * ubatch) override {
        if (!ubatch->pos) {
            return;
        }
        const llama_plan & plan = *runtime->plan;
        const size_t n_tokens = ubatch->n_tokens;

        if (pos_mapped && pos_mapped->buffer) {
            std::vector<int32_t> data(n_tokens*n_pos_per_embd, 0);
            // with M-RoPE, text has one position a token: it stands in the first three rows, and the fourth is 0
            const bool   text = ubatch->token != nullptr && n_pos_per_embd == 4;
            const size_t rows = text ? 3 : n_pos_per_embd;
            for (size_t r = 0; r < rows; ++r) {
                for (size_t i = 0; i < n_tokens; ++i) {
                    data[r*n_tokens + i] = plan.map_position(ubatch->pos[text ? i : r*n_tokens + i]);
                }
            }
            ggml_backend_tensor_set(pos_mapped, data.data(), 0, ggml_nbytes(pos_mapped));
        }
        if (pos_stream && pos_stream->buffer && runtime->stream_origin != 0) {
            std::vector<int32_t> data(ubatch->pos, ubatch->pos + n_tokens);
            for (auto & p : data) {
                p -= runtime->stream_origin;
            }
            ggml_backend_tensor_set(pos_stream, data.data(), 0, ggml_nbytes(pos_stream));
        }
        if (logn && logn->buffer) {
            std::vector<float> data(n_tokens);
            for (size_t i = 0; i < n_tokens; ++i) {
                data[i] = plan.logn_scale(ubatch->pos[i]);
            }
            ggml_backend_tensor_set(logn, data.data(), 0, ggml_nbytes(logn));
        }
    }

    bool can_reuse(const llm_graph_params & params) override {
        const int64_t n_tokens = params.ubatch.n_tokens;

        return params.cparams.plan == runtime &&
            (!pos_mapped || pos_mapped->ne[0] == n_tokens*n_pos_per_embd) &&
            (!logn       || logn->ne[2]       == n_tokens);
    }

    ggml_tensor * pos_mapped = nullptr; // I32 [n_tokens*n_pos_per_embd]
    ggml_tensor * pos_stream = nullptr; // the graph's own positions, which are counted from the stream's origin
    ggml_tensor * logn       = nullptr; // F32 [1, 1, n_tokens]

    const llama_plan_runtime * runtime;

    const uint32_t n_pos_per_embd;
};

//
// llm_graph_context: the members that hide ggml's rope functions from the model files
//

void llm_graph_context::plan_note(ggml_tensor * cur, const char * name, int il) const {
    if (il >= 0) {
        plan.il = il;
    } else if (strcmp(name, "inp_pos") == 0) {
        plan.inp_pos = cur;
    }
}

llm_graph_input_plan * llm_graph_context::plan_input() const {
    if (!plan.inp) {
        auto inp = std::make_unique<llm_graph_input_plan>(cparams.plan, hparams.n_pos_per_embd());
        plan.inp = (llm_graph_input_plan *) res->add_input(std::move(inp));
    }
    return plan.inp;
}

ggml_tensor * llm_graph_context::plan_rope(ggml_tensor * pos, ggml_tensor * own_factors, int n_dims, float scale, float ext, float attn, const plan_rope_fn & rope) const {
    const auto * runtime = cparams.plan;

    if (!runtime) {
        return rope(nullptr, pos, own_factors, scale, ext, attn);
    }

    ggml_tensor * cur = nullptr;

    if (plan.il < 0) {
        runtime->refuse("the architecture " + std::string(llm_arch_name(arch)) + " rotates before it names a layer, which a context plan does not reach");
    } else if (runtime->rotates(plan.il)) {
        const auto & factors = runtime->layer_factors(plan.il);
        if (n_dims/2 != (int) runtime->plan->n_pairs) {
            runtime->refuse(format("the context plan has factors for %u pairs, but layer %d rotates %d", runtime->plan->n_pairs, plan.il, n_dims/2));
        } else if ((factors.hi || runtime->plan->streaming) && pos != plan.inp_pos) {
            runtime->refuse("the architecture " + std::string(llm_arch_name(arch)) + " rotates by positions of its own, which a position map does not reach");
        } else {
            // a plan is total: its factors hold the model's own scaling, so scale, ramp and attention factor are the plan's
            if (runtime->plan->streaming) {
                plan_input()->pos_stream = plan.inp_pos; // set after the model's own input: this one is added later
            }
            cur = rope(nullptr, pos, factors.lo, 1.0f, 0.0f, runtime->rope_factor(runtime->step));
            runtime->note_plan_rope();
            if (factors.hi) {
                runtime->note_rope(cur, plan.il);

                auto * inp = plan_input();
                if (!inp->pos_mapped) {
                    inp->pos_mapped = ggml_dup_tensor(ctx0, plan.inp_pos);
                    ggml_set_input(inp->pos_mapped);
                    ggml_set_name (inp->pos_mapped, "inp_pos_mapped");
                }
                cur = rope(cur, inp->pos_mapped, factors.hi, 1.0f, 0.0f, 1.0f);
            }
        }
    }

    if (!cur) {
        cur = rope(nullptr, pos, own_factors, scale, ext, attn);
    }
    runtime->note_rope(cur, plan.il);

    return cur;
}

ggml_tensor * llm_graph_context::ggml_rope_ext(ggml_context * ctx, ggml_tensor * a, ggml_tensor * b, ggml_tensor * c, int n_dims, int mode, int n_ctx_orig,
        float base, float scale, float ext, float attn, float beta_fast, float beta_slow) const {
    return plan_rope(b, c, n_dims, scale, ext, attn, [&](ggml_tensor * again, ggml_tensor * pos, ggml_tensor * factors, float scale, float ext, float attn) {
        return ::ggml_rope_ext(ctx, again ? again : a, pos, factors, n_dims, mode, n_ctx_orig, base, scale, ext, attn, beta_fast, beta_slow);
    });
}

ggml_tensor * llm_graph_context::ggml_rope_multi(ggml_context * ctx, ggml_tensor * a, ggml_tensor * b, ggml_tensor * c, int n_dims, int * sections, int mode, int n_ctx_orig,
        float base, float scale, float ext, float attn, float beta_fast, float beta_slow) const {
    return plan_rope(b, c, n_dims, scale, ext, attn, [&](ggml_tensor * again, ggml_tensor * pos, ggml_tensor * factors, float scale, float ext, float attn) {
        return ::ggml_rope_multi(ctx, again ? again : a, pos, factors, n_dims, sections, mode, n_ctx_orig, base, scale, ext, attn, beta_fast, beta_slow);
    });
}

ggml_tensor * llm_graph_context::ggml_rope(ggml_context * ctx, ggml_tensor * a, ggml_tensor * b, int n_dims, int mode) const {
    // what ::ggml_rope stands for
    return ggml_rope_ext(ctx, a, b, nullptr, n_dims, mode, 0, 10000.0f, 1.0f, 0.0f, 1.0f, 0.0f, 0.0f);
}

ggml_tensor * llm_graph_context::ggml_rope_ext_back(ggml_context * ctx, ggml_tensor * a, ggml_tensor * b, ggml_tensor * c, int n_dims, int mode, int n_ctx_orig,
        float base, float scale, float ext, float attn, float beta_fast, float beta_slow) const {
    ggml_tensor * cur = ::ggml_rope_ext_back(ctx, a, b, c, n_dims, mode, n_ctx_orig, base, scale, ext, attn, beta_fast, beta_slow);
    if (cparams.plan) {
        if (!cparams.plan->plan->step_lengths.empty()) {
            cparams.plan->refuse("the architecture " + std::string(llm_arch_name(arch)) + " turns its attention's output back, which a context plan does not reach");
        }
        cparams.plan->note_rope(cur, plan.il);
    }
    return cur;
}

ggml_tensor * llm_graph_context::ggml_rope_set_offset(ggml_tensor * a, int offset) const {
    // a mapped rotation is a rotation of a rotation, and both start at the offset
    if (a->src[0]->op == GGML_OP_ROPE) {
        ::ggml_rope_set_offset(a->src[0], offset);
    }
    return ::ggml_rope_set_offset(a, offset);
}

ggml_tensor * llm_graph_context::plan_scale_q(ggml_tensor * q, int il) const {
    if (!cparams.plan || !cparams.plan->scales(il)) {
        return q;
    }
    auto * inp = plan_input();
    if (!inp->logn) {
        inp->logn = ggml_new_tensor_3d(ctx0, GGML_TYPE_F32, 1, 1, n_tokens);
        ggml_set_input(inp->logn);
        ggml_set_name (inp->logn, "inp_logn");
    }
    cparams.plan->note_plan_logn();
    return ggml_mul(ctx0, q, inp->logn);
}

float llm_graph_context::plan_scale_kq(float kq_scale, int il) const {
    return cparams.plan ? kq_scale*cparams.plan->score_factor(il) : kq_scale;
}

//
// K-shift
//

class llm_graph_input_plan_k_shift : public llm_graph_input_i {
public:
    llm_graph_input_plan_k_shift(const llama_plan & plan, const llama_kv_cache * kv) : plan(plan), kv(kv) {}

    void set_input(const llama_ubatch * ubatch) override {
        GGML_UNUSED(ubatch);

        if (shift && shift->buffer) {
            kv->set_input_k_shift_mapped(shift, plan);
        }
    }

    ggml_tensor * shift = nullptr; // I32 [n_cells]

    const llama_plan & plan;

    const llama_kv_cache * kv;
};

void llama_kv_cache::set_input_k_shift_mapped(ggml_tensor * dst, const llama_plan & plan) const {
    std::vector<int32_t> data(ggml_nelements(dst), 0);

    for (uint32_t s = 0; s < n_stream; ++s) {
        const auto & cells = v_cells[s];

        for (uint32_t i = 0; i < cells.size(); ++i) {
            if (!cells.is_empty(i)) {
                const llama_pos pos = cells.pos_get(i); // the shift is already in it
                data[(size_t) s*cells.size() + i] = plan.map_position(pos) - plan.map_position(pos - cells.get_shift(i));
            }
        }
    }
    ggml_backend_tensor_set(dst, data.data(), 0, ggml_nbytes(dst));
}

void llama_plan_runtime::add_k_shift_input(ggml_context * ctx, llm_graph_result * res, const llama_kv_cache * kv, int64_t n_cells) const {
    k_shift_mapped = nullptr;
    if (!plan->maps_positions()) {
        return;
    }
    auto inp = std::make_unique<llm_graph_input_plan_k_shift>(*plan, kv);
    inp->shift = ggml_new_tensor_1d(ctx, GGML_TYPE_I32, n_cells);
    ggml_set_input(inp->shift);
    k_shift_mapped = inp->shift;
    res->add_input(std::move(inp));
}

ggml_tensor * llama_plan_runtime::build_turn(ggml_context * ctx, ggml_tensor * k, const turn & by, int n_rot, int mode, float freq_base) {
    ggml_tensor * cur = ::ggml_rope_ext_inplace(ctx, k, by.pos, by.f.lo, n_rot, mode, 0, freq_base, 1.0f, 0.0f, by.attention_factor, 0.0f, 0.0f);
    if (by.f.hi) {
        cur = ::ggml_rope_ext_inplace(ctx, cur, by.pos_mapped, by.f.hi, n_rot, mode, 0, freq_base, 1.0f, 0.0f, 1.0f, 0.0f, 0.0f);
    }
    return cur;
}

ggml_tensor * llama_plan_runtime::build_k_shift(ggml_context * ctx, ggml_tensor * k, ggml_tensor * shift, ggml_tensor * rot, ggml_tensor * own_factors, int n_rot, int mode,
        float freq_base, float own_freq_scale, const llama_cparams & cparams, int il) const {
    if (!rotated[il]) {
        return k;
    }

    // types that do not rotate are turned in F32, out of the rotation (rot) that quantized keys are stored under
    const bool inplace = k->type == GGML_TYPE_F32 || k->type == GGML_TYPE_F16;

    ggml_tensor * cur = k;
    if (!inplace) {
        cur = ggml_cast(ctx, cur, GGML_TYPE_F32);
        if (rot) {
            cur = llama_mul_mat_hadamard(ctx, cur, rot);
        }
    }

    if (rotates(il)) {
        cur = build_turn(ctx, cur, { shift, k_shift_mapped, layer_factors(il), 1.0f }, n_rot, mode, freq_base);
    } else {
        // the layer's own rotation; the ramp's attention factor is in the keys already, and is cancelled
        const float ext  = cparams.yarn_ext_factor;
        const float attn = ext != 0.0f ? 1.0f/(1.0f + 0.1f*std::log(1.0f/own_freq_scale)) : 1.0f;
        cur = ::ggml_rope_ext_inplace(ctx, cur, shift, own_factors, n_rot, mode, cparams.n_ctx_orig_yarn, freq_base, own_freq_scale,
                ext, attn, cparams.yarn_beta_fast, cparams.yarn_beta_slow);
    }

    if (!inplace) {
        if (rot) {
            cur = llama_mul_mat_hadamard(ctx, cur, rot);
        }
        cur = ggml_cpy(ctx, cur, k);
    }
    return cur;
}
