#pragma once

#include "llama-plan.h"

#include "ggml-cpp.h"

#include <map>
#include <memory>
#include <string>
#include <unordered_set>
#include <vector>

struct ggml_cgraph;
struct ggml_context;
struct ggml_tensor;

struct llama_context;
struct llama_cparams;
struct llama_hparams;
struct llama_memory_i;
struct llama_model;

class  llama_kv_cache;
class  llm_graph_input_plan;
class  llm_graph_result;

// One context's execution of its model's plan: the factor tensors on the layers' devices, and what its graphs found.
// Reached through llama_cparams::plan; null there means that there is nothing to execute.
struct llama_plan_runtime {
    // nullptr if the model has no plan, or one that leaves nothing to execute; throws if the factors cannot be placed
    static std::unique_ptr<llama_plan_runtime> make(const llama_model & model, llama_context * lctx);

    // of a plan that the file's own keys say: it changes no graph, and sees to it that a K-shift does not scale the keys again
    static std::unique_ptr<llama_plan_runtime> make_native(const llama_model & model, llama_context * lctx);

    // factors on the device of layer il: lo for the true positions, hi for the mapped ones
    struct factors {
        ggml_tensor * lo = nullptr;
        ggml_tensor * hi = nullptr;
    };

    const factors & layer_factors(int il) const { return layers[il]; }

    // of the step in force: on rotated q and rotated k, or with latent attention, of which only a part rotates, on the whole score
    float attention_factor(uint32_t step) const { return plan->step_attention_factors.empty() ? 1.0f : plan->step_attention_factors[step]; }
    float rope_factor (uint32_t step) const;
    float score_factor(int il) const;

    // the step in force; set_step() writes its factors to the devices
    uint32_t step     = 0;
    uint32_t reserved = 0; // tokens

    void set_step(uint32_t next);

    std::string broken; // turning the cached keys stopped half-way: nothing can go on before the memory is empty

    // does the plan replace this layer's rotation? is this layer's attention scaled by LogN?
    bool rotates(int il) const;
    bool scales (int il) const;

    bool windowed() const { return plan->has_windows(); }

    // streaming: tokens by which a window moves, tokens after which the origin of rotations does, and that origin
    llama_pos stream_block() const; // 0: the plan does not stream
    llama_pos stream_period() const;
    llama_pos stream_origin = 0;

    llama_context * const lctx;

    uint32_t max_nodes() const; // that the plan adds to a graph, leaves included

    // to be called after a reserve: throws the first refusal that building the graphs met, and refuses a graph
    // with a rotation that did not come through the plan, or on which a part of the plan has no effect
    void check_reserved(ggml_cgraph * gf, const llama_memory_i * memory) const;

    // only the first is kept: graphs are built where nothing may be thrown
    void refuse(const std::string & reason) const;

    //
    // turning cached keys
    //

    // by how much: positions for the pairs of lo, and mapped ones for those of hi
    struct turn {
        ggml_tensor * pos        = nullptr;
        ggml_tensor * pos_mapped = nullptr;
        factors       f;
        float         attention_factor = 1.0f;
    };

    // each pair is turned once, in place
    static ggml_tensor * build_turn(ggml_context * ctx, ggml_tensor * k, const turn & by, int n_rot, int mode, float freq_base);

    // K-shift: p(m + d) - p(m) for the mapped pairs; the keys are multiplied by no attention factor again
    void          add_k_shift_input(ggml_context * ctx, llm_graph_result * res, const llama_kv_cache * kv, int64_t n_cells) const;
    ggml_tensor * build_k_shift    (ggml_context * ctx, ggml_tensor * k, ggml_tensor * shift, ggml_tensor * rot, ggml_tensor * own_factors, int n_rot, int mode,
            float freq_base, float own_freq_scale, const llama_cparams & cparams, int il) const;

    bool has_rotated(int il) const { return rotated[il]; }

    // the factors of a step, parted between the two rotations: what the other one turns stands still
    void part(const float * factors, std::vector<float> & lo, std::vector<float> & hi) const;

    std::shared_ptr<const llama_plan> plan;

    const llama_model   & model;
    const llama_hparams & hparams;

    // remember, for check_reserved() and the K-shift, a rotation that a graph member made, and what the plan did
    void note_rope(const ggml_tensor * rope, int il) const;
    void note_plan_rope() const { turned = true; }
    void note_plan_logn() const { scaled = true; }
    void note_plan_windows() const { limited = true; }

private:
    llama_plan_runtime(const llama_model & model, llama_context * lctx, std::shared_ptr<const llama_plan> plan);

    std::vector<factors> layers;

    std::vector<std::pair<ggml_context_ptr, ggml_backend_buffer_ptr>> ctxs_bufs;

    mutable ggml_tensor * k_shift_mapped = nullptr; // of the K-shift graph being built

    mutable std::unordered_set<const ggml_tensor *> made;    // while the context is being reserved
    mutable std::vector<bool>                       rotated; // [n_layer], layers without RoPE make no rotation

    mutable bool turned = false; // some layer is rotated by the plan's factors
    mutable bool scaled = false; // some layer's q is scaled by LogN
    mutable bool limited = false; // the layers attend within their windows

    mutable std::string refusal;
    mutable bool        reserving = true;
};

// What one graph knows of the plan while it is being built.
struct llm_graph_plan {
    int il = -1;                            // the layer being built
    ggml_tensor * inp_pos = nullptr;        // the true positions
    llm_graph_input_plan * inp = nullptr;   // made when first needed: an input that no node reads has no buffer
};
