#pragma once

#include "llama-context-plan.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

struct gguf_context;
struct llama_hparams;

// A context plan as data: immutable, shared by a model and the contexts made while it was set.
struct llama_plan {
    explicit llama_plan(const llama_context_plan_params & params);

    bool native = false;

    uint32_t train_length  = 0;
    uint32_t target_length = 0;

    uint32_t n_pairs = 0;
    std::vector<uint32_t> step_lengths;
    std::vector<float>    step_factors;
    std::vector<float>    step_attention_factors;

    std::vector<uint32_t> rope_layers;

    uint32_t position_kind       = LLAMA_CONTEXT_PLAN_POSITION_IDENTITY;
    uint32_t position_period     = 0;
    uint32_t position_first_pair = 0;

    uint32_t logn_length = 0;

    std::vector<uint32_t> windows;
    uint32_t n_sinks   = 0;
    bool     streaming = false;

    std::string method;
    std::string options;

    llama_context_plan_params view() const;

    // of what is executed; names and notes do not count
    uint64_t hash() const;

    // the step in force for a sequence of so many tokens: the last one where none reaches that far
    uint32_t step_for(uint32_t n_tokens) const;

    const float * factors(uint32_t step) const { return step_factors.data() + (size_t) step*n_pairs; }

    bool has_windows() const; // a layer that does not see all

    bool maps_positions() const { return position_kind != LLAMA_CONTEXT_PLAN_POSITION_IDENTITY; }

    int32_t map_position(int32_t pos) const;
    float   logn_scale  (int32_t pos) const;
};

// A model's plan, and the context length that the model has without one.
struct llama_plan_slot {
    std::shared_ptr<const llama_plan> plan;

    uint32_t n_ctx_train_own = 0;

    // the window that a caller who wants to go back has to know of: the plan's largest
    uint32_t n_swa(uint32_t own) const;

    // throws std::runtime_error, as everything in load_hparams does
    void load(const gguf_context * meta, const std::string & arch, llama_hparams & hparams);

    // throws std::runtime_error and changes nothing if the model cannot carry the plan
    void set(std::shared_ptr<const llama_plan> next, const std::string & arch, llama_hparams & hparams);
};

// sets the text of llama_context_plan_last_error() and throws it
[[noreturn]] void llama_plan_refuse(const std::string & reason);

// the text alone, for where nothing may be thrown
void llama_plan_set_error(const std::string & reason);
