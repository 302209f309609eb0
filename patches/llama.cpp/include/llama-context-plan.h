#pragma once

// Context plans: what a context extension changes in a model's positions, rotation and queries.
//
// A plan is read from a GGUF file's `ropewalk.*` keys when the model is loaded, and can be set on a model
// before a context is made. Contexts made later execute it; contexts made earlier keep the one they were
// made with. Setting a plan while another thread makes a context of the same model is a race.
//
// Nothing here aborts. A refusal is a return value (or a null model or context), and
// llama_context_plan_last_error() says why in one sentence.

#include "llama.h"

#define LLAMA_CONTEXT_PLAN_BUILD  "ropewalk.3" // counts the releases of the patch
#define LLAMA_CONTEXT_PLAN_SCHEMA 1            // the newest `ropewalk.schema` that is understood

#ifdef __cplusplus
extern "C" {
#endif

    enum llama_context_plan_position {
        LLAMA_CONTEXT_PLAN_POSITION_IDENTITY = 0, // p(m) = m
        LLAMA_CONTEXT_PLAN_POSITION_PERIODIC = 1, // p(m) = m mod period
        LLAMA_CONTEXT_PLAN_POSITION_MIRRORED = 2, // q = m mod period; p(m) = q below period/2, else period - q
    };

    // theta_i = base^(-2i/n_rot) of pair i is divided by the step's factor i
    struct llama_context_plan_params {
        uint32_t schema;
        uint32_t native;                // 1: the file's own keys say all of it, and they are what is executed
        uint32_t train_length;          // tokens
        uint32_t target_length;         // tokens
        uint32_t n_steps;               // 0: the model's own frequencies are left alone
        uint32_t n_pairs;               // n_rot/2
        uint32_t n_rope_layers;         // 0: every layer that rotates and sees the whole context
        uint32_t position_kind;         // enum llama_context_plan_position
        uint32_t position_period;       // tokens
        uint32_t position_first_pair;   // pairs from this one on see p(m)
        uint32_t logn_length;           // q at position m is multiplied by max(1, log(m + 1)/log(logn_length)); 0: off
        uint32_t n_windows;             // 0, or the number of layers
        uint32_t n_sinks;
        uint32_t streaming;
        const char     * method;                 // for people
        const char     * options;                // for people
        const uint32_t * step_lengths;           // [n_steps], the step holds for sequences up to this length
        const float    * step_factors;           // [n_steps*n_pairs]
        const float    * step_attention_factors; // [n_steps], multiplies rotated q and rotated k
        const uint32_t * rope_layers;            // [n_rope_layers]
        const uint32_t * windows;                // [n_windows]
    };

    // which release of the patch this library carries
    LLAMA_API const char * llama_context_plan_build(void);

    LLAMA_API uint32_t llama_context_plan_schema(void);

    // false: the model has no plan. The pointers stay valid until the model's plan is set or the model is freed.
    LLAMA_API bool llama_model_plan_get(const struct llama_model * model, struct llama_context_plan_params * plan);

    // Copies the plan; NULL removes it. llama_model_n_ctx_train() follows. 0: done, -1: refused.
    LLAMA_API int32_t llama_model_plan_set(struct llama_model * model, const struct llama_context_plan_params * plan);

    // A plan with several steps follows the longest sequence that the context holds: a step never falls back until
    // the memory is empty, and when it rises the cached keys are turned to the new frequencies. They then agree with the
    // frequencies in force, but values and deeper states were computed under the old ones. A caller who knows how
    // long it will get reserves that length, and the step for it is in force from the start. The reservation
    // holds until another is made; 0 ends it. 0: done, -1: refused.
    LLAMA_API int32_t llama_context_plan_reserve(struct llama_context * ctx, uint32_t n_tokens);

    // The longest sequence that the factors in force are meant for; 0 if the context executes no factors.
    LLAMA_API uint32_t llama_context_plan_length(const struct llama_context * ctx);

    // Bytes of the K and V that a context made with these parameters would hold under the model's plan, or without one.
    // -1: refused, the model's memory is of a kind whose size is not known beforehand (recurrent, hybrid, sparse attention).
    LLAMA_API int64_t llama_context_plan_kv_size(const struct llama_model * model, struct llama_context_params params);

    // Why this thread's last load, set, context, reservation or decode was refused, "" if it was not for the sake of a plan.
    // Reading it clears it; the text stays valid until the thread calls this again. A load that fails before the file's
    // metadata is read (a missing file) leaves what was there: read it after each refusal.
    LLAMA_API const char * llama_context_plan_last_error(void);

#ifdef __cplusplus
}
#endif
