// Streaming: windows in every layer, with the sinks' keys at positions just before the window, whatever the text's length.
//
// A window moves in blocks of B tokens: for a query at p in block b = p/B, sink j is turned as if at j + max(0, b*B - w + 1 - n_sinks),
// which is StreamingLLM's position within the cache at the block's start. Only the sinks' few keys are rewritten, each time
// from the rows as first written, so that no rounding builds up.
//
// Angles are computed in F32, so positions must not grow for ever: rotations count from an origin, which moves every four windows.
// The keys of the window are then turned back by as much, once in their life.

#include "llama-kv-cache-windows.h"

#include "llama-batch.h"
#include "llama-context.h"
#include "llama-impl.h"
#include "llama-io.h"
#include "llama-model.h"

#include <algorithm>
#include <cmath>
#include <cstring>

//
// keys, read and written on the host
//

std::vector<uint8_t> llama_kv_cache::plan_read_key(uint32_t il, uint32_t idx) const {
    const ggml_tensor * k = layers[map_layer_ids.at(il)].k_stream[0];

    std::vector<uint8_t> key(ggml_row_size(k->type, k->ne[0]));
    ggml_backend_tensor_get(k, key.data(), idx*key.size(), key.size());
    return key;
}

void llama_kv_cache::plan_write_key(uint32_t il, uint32_t idx, const std::vector<uint8_t> & key, const std::vector<double> & angles) const {
    ggml_tensor * k = layers[map_layer_ids.at(il)].k_stream[0];

    const int64_t n_embd = k->ne[0];
    const int64_t n_head = hparams.n_embd_head_k(il);
    const int64_t n_rot  = hparams.n_rot(il);
    const int64_t n_nope = hparams.n_lora_kv > 0 ? n_head - n_rot : 0;

    const bool turns = std::any_of(angles.begin(), angles.end(), [](double a) { return a != 0.0; });
    if (!turns) {
        ggml_backend_tensor_set(k, key.data(), idx*key.size(), key.size()); // bit for bit
        return;
    }

    std::vector<float> x(n_embd);
    if (k->type == GGML_TYPE_F32) {
        memcpy(x.data(), key.data(), key.size());
    } else {
        ggml_get_type_traits(k->type)->to_float(key.data(), x.data(), n_embd);
    }

    // the rotation that quantized keys are stored under is its own inverse
    const auto unrotate = [&]() {
        if (!attn_rot_k) {
            return;
        }
        int64_t n = 64;
        while (n_embd_head_k_all % (2*n) == 0) {
            n *= 2;
        }
        const auto & h = attn_rot_hadamard.at(n);
        std::vector<float> y(n);
        for (int64_t i0 = 0; i0 < n_embd; i0 += n) {
            for (int64_t i = 0; i < n; ++i) {
                double sum = 0.0;
                for (int64_t j = 0; j < n; ++j) {
                    sum += (double) h[i*n + j]*x[i0 + j];
                }
                y[i] = (float) sum;
            }
            std::copy(y.begin(), y.end(), x.begin() + i0);
        }
    };

    const bool normal = hparams.rope_type == LLAMA_ROPE_TYPE_NORM; // else the pairs' halves stand apart

    unrotate();
    for (int64_t h = 0; h < n_embd; h += n_head) {
        float * head = x.data() + h + n_nope;
        for (int64_t i = 0; i < n_rot/2; ++i) {
            float & a = head[normal ? 2*i     : i];
            float & b = head[normal ? 2*i + 1 : i + n_rot/2];

            const double c = std::cos(angles[i]);
            const double s = std::sin(angles[i]);
            const double t = a*c - b*s;
            b = (float) (a*s + b*c);
            a = (float) t;
        }
    }
    unrotate();

    std::vector<uint8_t> turned(key.size());
    ggml_quantize_chunk(k->type, x.data(), turned.data(), 0, 1, n_embd, nullptr);
    ggml_backend_tensor_set(k, turned.data(), idx*turned.size(), turned.size());
}

//
// llama_kv_cache_windows
//

// radians that the layer's pairs turn in so many tokens; nothing in a layer without RoPE
static std::vector<double> plan_angles(const llama_plan_runtime & runtime, uint32_t il, float freq_base, llama_pos n_tokens) {
    const auto & plan = *runtime.plan;

    std::vector<double> res(plan.n_pairs, 0.0);
    if (runtime.rotates(il) && runtime.has_rotated(il)) {
        for (uint32_t i = 0; i < plan.n_pairs; ++i) {
            res[i] = n_tokens*std::pow((double) freq_base, -(double) i/plan.n_pairs)/plan.factors(runtime.step)[i];
        }
    }
    return res;
}

void llama_kv_cache_windows::stream_keep_sinks() {
    if (!sink_rows.empty()) {
        return;
    }
    sink_rows.resize(hparams.n_layer_all);
    for (const auto & g : groups) {
        for (const auto & [pos, idx] : g.kv->get_cells(0).seq_pos_get(0)) {
            if (pos >= (llama_pos) n_sinks) {
                break;
            }
            for (const uint32_t il : g.layers) {
                const auto key = g.kv->plan_read_key(il, idx);
                sink_rows[il].resize(n_sinks*key.size()); // a sink that was removed leaves zeros
                std::copy(key.begin(), key.end(), sink_rows[il].begin() + pos*key.size());
            }
        }
    }
}

void llama_kv_cache_windows::stream_write_sinks(const group & g) const {
    for (const uint32_t il : g.layers) {
        const size_t size   = sink_rows[il].size()/std::max(1u, n_sinks);
        const auto   angles = plan_angles(*cparams.plan, il, model.get_rope_freq_base(cparams, il), g.moved - cparams.plan->stream_origin);

        for (const auto & [pos, idx] : g.kv->get_cells(0).seq_pos_get(0)) {
            if (pos >= (llama_pos) n_sinks || size == 0) {
                break;
            }
            const auto * key = sink_rows[il].data() + pos*size;
            g.kv->plan_write_key(il, idx, { key, key + size }, angles);
        }
    }
}

void llama_kv_cache_windows::stream_move(llama_pos pos) {
    auto & runtime = *cparams.plan;

    const llama_pos block_size = runtime.stream_block();
    const llama_pos start      = pos - pos % block_size;
    const llama_pos origin     = std::max(runtime.stream_origin, pos - pos % runtime.stream_period());
    const llama_pos back       = origin - runtime.stream_origin;

    const auto target = [&](const group & g) {
        return std::max<int64_t>(0, (int64_t) start - g.window + 1 - n_sinks);
    };
    if (back == 0 && std::all_of(groups.begin(), groups.end(), [&](const group & g) { return g.moved == target(g); })) {
        return;
    }

    runtime.lctx->synchronize();
    stream_keep_sinks();
    runtime.stream_origin = origin;

    for (auto & g : groups) {
        const bool moves = g.moved != target(g);
        g.moved = target(g);
        if (moves || back > 0) {
            stream_write_sinks(g);
        }
        if (back == 0) {
            continue;
        }
        for (const uint32_t il : g.layers) {
            const auto angles = plan_angles(runtime, il, model.get_rope_freq_base(cparams, il), -back);
            for (const auto & [cell_pos, idx] : g.kv->get_cells(0).seq_pos_get(0)) {
                if (cell_pos >= (llama_pos) n_sinks) {
                    g.kv->plan_write_key(il, idx, g.kv->plan_read_key(il, idx), angles);
                }
            }
        }
    }
}

void llama_kv_cache_windows::stream_forget() {
    if (!cparams.plan->plan->streaming) {
        return;
    }
    cparams.plan->lctx->synchronize();
    cparams.plan->stream_origin = 0;
    for (auto & g : groups) {
        g.moved = 0;
        if (!sink_rows.empty()) {
            stream_write_sinks(g);
        }
    }
    sink_rows.clear();
}

void llama_kv_cache_windows::stream_state_write(llama_io_write_i & io) const {
    if (!cparams.plan->plan->streaming) {
        return;
    }
    io.write(&cparams.plan->stream_origin, sizeof(cparams.plan->stream_origin));
    for (const auto & g : groups) {
        io.write(&g.moved, sizeof(g.moved));
    }
    const uint32_t n_layers = sink_rows.size();
    io.write(&n_layers, sizeof(n_layers));
    for (const auto & rows : sink_rows) {
        const uint32_t size = rows.size();
        io.write(&size, sizeof(size));
        io.write(rows.data(), rows.size());
    }
}

void llama_kv_cache_windows::stream_state_read(llama_io_read_i & io) {
    if (!cparams.plan->plan->streaming) {
        return;
    }
    io.read(&cparams.plan->stream_origin, sizeof(cparams.plan->stream_origin));
    for (auto & g : groups) {
        io.read(&g.moved, sizeof(g.moved));
    }
    uint32_t n_layers;
    io.read(&n_layers, sizeof(n_layers));
    if (n_layers != 0 && n_layers != hparams.n_layer_all) {
        llama_plan_refuse("the saved state is damaged: it has the first tokens' keys of another number of layers");
    }
    sink_rows.assign(n_layers, {});
    for (uint32_t il = 0; il < n_layers; ++il) {
        uint32_t size;
        io.read(&size, sizeof(size));
        const auto & group_kv = groups[layer_group[il]].kv;
        const bool   has_kv   = std::find(groups[layer_group[il]].layers.begin(), groups[layer_group[il]].layers.end(), il) != groups[layer_group[il]].layers.end();
        if (size != 0 && (!has_kv || size != n_sinks*ggml_row_size(group_kv->type_k(), hparams.n_embd_k_gqa(il)))) {
            llama_plan_refuse("the saved state is damaged: the first tokens' keys are of another size");
        }
        sink_rows[il].resize(size);
        io.read(sink_rows[il].data(), size);
    }
}
