// What a context's KV cache takes, told before it is made.

#include "llama-arch.h"
#include "llama-impl.h"
#include "llama-kv-cache-windows.h"
#include "llama-model.h"

#include <algorithm>

// the memory that llama_model::create_memory() makes where nothing special is needed: one cache, or two with windows of the model's own
static bool plan_memory_is_plain(llm_arch arch) {
    switch (arch) {
        case LLM_ARCH_MINIMAX_M3:
        case LLM_ARCH_GLM_DSA:
        case LLM_ARCH_DEEPSEEK32:
        case LLM_ARCH_GLM5_NEXT:
        case LLM_ARCH_HY_V4:
        case LLM_ARCH_DOTS3NOTE:
        case LLM_ARCH_DEEPSEEK4:
        case LLM_ARCH_DFLASH:
        case LLM_ARCH_GEMMA4_ASSISTANT:
            return false;
        default: // mamba and the like keep states of a fixed size
            return !llm_arch_is_recurrent(arch) && !llm_arch_is_hybrid(arch);
    }
}

// encoders and diffusion models compute a text anew each time
static bool plan_has_no_memory(llm_arch arch) {
    switch (arch) {
        case LLM_ARCH_BERT:
        case LLM_ARCH_JINA_BERT_V2:
        case LLM_ARCH_JINA_BERT_V3:
        case LLM_ARCH_NOMIC_BERT:
        case LLM_ARCH_NOMIC_BERT_MOE:
        case LLM_ARCH_NEO_BERT:
        case LLM_ARCH_EUROBERT:
        case LLM_ARCH_WAVTOKENIZER_DEC:
        case LLM_ARCH_MODERN_BERT:
        case LLM_ARCH_GEMMA_EMBEDDING:
        case LLM_ARCH_DREAM:
        case LLM_ARCH_LLADA:
        case LLM_ARCH_LLADA_MOE:
        case LLM_ARCH_RND1:
            return true;
        default:
            return false;
    }
}

int64_t llama_context_plan_kv_size(const llama_model * model, llama_context_params params) {
    llama_plan_set_error("");

    if (model && plan_has_no_memory(model->arch)) {
        return 0;
    }
    if (!model || model->hparams.vocab_only || !plan_memory_is_plain(model->arch) || params.ctx_type != LLAMA_CONTEXT_TYPE_DEFAULT) {
        llama_plan_set_error(model ? "the size of the memory of a " + model->arch_name() + " model is not known before its context is made" : "there is no model");
        return -1;
    }
    const auto & hparams = model->hparams;
    const auto   plan    = model->plan.plan;

    // as llama_context's constructor rounds them
    const bool     causal    = params.attention_type == LLAMA_ATTENTION_TYPE_UNSPECIFIED ? hparams.causal_attn : params.attention_type == LLAMA_ATTENTION_TYPE_CAUSAL;
    const uint32_t n_ctx     = params.n_ctx == 0 ? hparams.n_ctx_train : params.n_ctx;
    const uint32_t n_batch   = causal ? std::min(n_ctx, params.n_batch) : params.n_batch;
    const uint32_t n_ubatch  = std::min(n_batch, params.n_ubatch == 0 ? params.n_batch : params.n_ubatch);
    const uint32_t n_seq_max = std::max(1u, params.n_seq_max);
    const uint32_t n_ctx_seq = params.kv_unified ? GGML_PAD(n_ctx, 256) : GGML_PAD(GGML_PAD(n_ctx, 256)/n_seq_max, 256);
    const uint32_t n_stream  = params.kv_unified ? 1 : n_seq_max;
    const bool     v_trans   = params.flash_attn_type == LLAMA_FLASH_ATTN_TYPE_DISABLED;
    const bool     windowed  = plan && !plan->native && plan->has_windows();
    const bool     trunk     = hparams.n_layer_nextn > 0 && hparams.n_layer() > 0 && hparams.router_layer < 0;

    int64_t size = 0;
    for (uint32_t il = 0; il < (trunk ? hparams.n_layer() : hparams.n_layer_all); ++il) {
        if (!hparams.has_kv(il)) {
            continue;
        }
        uint32_t window  = 0;
        uint32_t n_sinks = 0;
        if (windowed && il < plan->windows.size()) {
            window  = plan->windows[il];
            n_sinks = plan->n_sinks;
        } else if (hparams.is_swa(il) && !params.swa_full) {
            window  = hparams.n_swa;
        }
        const int64_t n_cells = (int64_t) n_stream*llama_kv_cache_windows::n_cells(window, n_sinks, n_ctx_seq, n_seq_max, n_ubatch, params.kv_unified);

        size += n_cells*ggml_row_size(params.type_k, hparams.n_embd_k_gqa(il));
        if (!hparams.is_mla()) {
            size += n_cells*ggml_row_size(params.type_v, v_trans ? hparams.n_embd_v_gqa_max() : hparams.n_embd_v_gqa(il));
        }
    }
    return size;
}
