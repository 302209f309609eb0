// The attention inputs of a context with windows: one sub-input per group of layers, each with its own cells and mask.

#include "llama-graph.h"

#include "llama-kv-cache-windows.h"

template <typename inp_t>
class llm_graph_input_attn_windows : public inp_t {
public:
    llm_graph_input_attn_windows(const llama_hparams & hparams, const llama_cparams & cparams, const llama_kv_cache_windows_context * mctx) :
        inp_t(hparams, cparams, nullptr), mctx_windows(mctx) {}

    void set_input(const llama_ubatch * ubatch) override {
        for (auto & inp : groups) {
            inp->set_input(ubatch);
        }
    }

    bool can_reuse(const llm_graph_params & params) override {
        mctx_windows = static_cast<const llama_kv_cache_windows_context *>(params.mctx);

        llm_graph_params params_group = params;

        bool res = mctx_windows->n_groups() == groups.size();
        for (size_t i = 0; res && i < groups.size(); ++i) {
            params_group.mctx = mctx_windows->get_group(i);
            res = groups[i]->can_reuse(params_group);
        }
        return res;
    }

    inp_t * for_layer(int il) override {
        return groups[mctx_windows->group_of(il)].get();
    }

    std::vector<std::unique_ptr<inp_t>> groups;

    const llama_kv_cache_windows_context * mctx_windows;
};

llm_graph_input_attn_kv * llm_graph_context::plan_attn_inp_kv(plan_attn_inp_fn<llm_graph_input_attn_kv> build) const {
    if (!cparams.plan || !cparams.plan->windowed()) {
        return nullptr;
    }
    cparams.plan->note_plan_windows();

    const auto * mctx_cur = static_cast<const llama_kv_cache_windows_context *>(mctx);

    auto inp = std::make_unique<llm_graph_input_attn_windows<llm_graph_input_attn_kv>>(hparams, cparams, mctx_cur);
    for (size_t i = 0; i < mctx_cur->n_groups(); ++i) {
        inp->groups.push_back(build(ctx0, ubatch, hparams, cparams, mctx_cur->get_group(i)));

        // layers of equal head size are stored under the same rotation, which is copied to the device for every graph
        const auto share = [&](ggml_tensor * llm_graph_input_attn_kv::* rot) {
            ggml_tensor * first = inp->groups[0].get()->*rot;
            ggml_tensor * own   = inp->groups[i].get()->*rot;
            if (first && own && ggml_are_same_shape(first, own)) {
                inp->groups[i].get()->*rot = first;
            }
        };
        share(&llm_graph_input_attn_kv::self_k_rot);
        share(&llm_graph_input_attn_kv::self_v_rot);
    }
    return (llm_graph_input_attn_kv *) res->add_input(std::move(inp));
}

llm_graph_input_attn_k * llm_graph_context::plan_attn_inp_k(plan_attn_inp_fn<llm_graph_input_attn_k> build) const {
    if (!cparams.plan || !cparams.plan->windowed()) {
        return nullptr;
    }
    cparams.plan->note_plan_windows();

    const auto * mctx_cur = static_cast<const llama_kv_cache_windows_context *>(mctx);

    auto inp = std::make_unique<llm_graph_input_attn_windows<llm_graph_input_attn_k>>(hparams, cparams, mctx_cur);
    for (size_t i = 0; i < mctx_cur->n_groups(); ++i) {
        inp->groups.push_back(build(ctx0, ubatch, hparams, cparams, mctx_cur->get_group(i)));
    }
    return (llm_graph_input_attn_k *) res->add_input(std::move(inp));
}
