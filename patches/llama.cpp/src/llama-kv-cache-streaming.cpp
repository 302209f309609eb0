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

std::vector<uint8_t> llama_kv_cache::plan_read_keys(uint32_t il, uint32_t from, uint32_t to) const {
    const ggml_tensor * k = layers[map_layer_ids.at(il)].k_stream[0];

    const size_t size = ggml_row_size(k->type, k->ne[0]);
    std::vector<uint8_t> keys((to - from)*size);
    ggml_backend_tensor_get(k, keys.data(), from*size, keys.size());
    return keys;
}

void llama_kv_cache::plan_write_keys(uint32_t il, uint32_t from, const std::vector<uint8_t> & keys) const {
    ggml_tensor * k = layers[map_layer_ids.at(il)].k_stream[0];

    ggml_backend_tensor_set(k, keys.data(), from*ggml_row_size(k->type, k->ne[0]), keys.size());
}

void llama_kv_cache::plan_turn_key(uint32_t il, uint8_t * key, const std::vector<std::pair<double, double>> & cos_sin) const {
    const ggml_tensor * k = layers[map_layer_ids.at(il)].k_stream[0];

    const int64_t n_embd = k->ne[0];
    const int64_t n_head = hparams.n_embd_head_k(il);
    const int64_t n_rot  = hparams.n_rot(il);
    const int64_t n_nope = hparams.n_lora_kv > 0 ? n_head - n_rot : 0;

    std::vector<float> x(n_embd);
    if (k->type == GGML_TYPE_F32) {
        memcpy(x.data(), key, n_embd*sizeof(float));
    } else {
        ggml_get_type_traits(k->type)->to_float(key, x.data(), n_embd);
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

            const auto [c, s] = cos_sin[i];
            const double t = a*c - b*s;
            b = (float) (a*s + b*c);
            a = (float) t;
        }
    }
    unrotate();

    ggml_quantize_chunk(k->type, x.data(), key, 0, 1, n_embd, nullptr);
}

//
// llama_kv_cache_windows
//

// by which the layer's pairs turn in so many tokens; empty where nothing turns
static std::vector<std::pair<double, double>> plan_cos_sin(const llama_plan_runtime & runtime, uint32_t il, float freq_base, llama_pos n_tokens) {
    const auto & plan = *runtime.plan;

    std::vector<std::pair<double, double>> res;
    if (n_tokens != 0 && runtime.rotates(il) && runtime.has_rotated(il)) {
        for (uint32_t i = 0; i < plan.n_pairs; ++i) {
            const double angle = n_tokens*std::pow((double) freq_base, -(double) i/plan.n_pairs)/plan.factors(runtime.step)[i];
            res.emplace_back(std::cos(angle), std::sin(angle));
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
                const auto key = g.kv->plan_read_keys(il, idx, idx + 1);
                sink_rows[il].resize(n_sinks*key.size()); // a sink that was removed leaves zeros
                std::copy(key.begin(), key.end(), sink_rows[il].begin() + pos*key.size());
            }
        }
    }
}

void llama_kv_cache_windows::stream_write_sinks(const group & g) const {
    for (const uint32_t il : g.layers) {
        const size_t size    = sink_rows[il].size()/std::max(1u, n_sinks);
        const auto   cos_sin = plan_cos_sin(*cparams.plan, il, model.get_rope_freq_base(cparams, il), g.moved - cparams.plan->stream_origin);

        for (const auto & [pos, idx] : g.kv->get_cells(0).seq_pos_get(0)) {
            if (pos >= (llama_pos) n_sinks || size == 0) {
                break;
            }
            std::vector<uint8_t> key(sink_rows[il].begin() + pos*size, sink_rows[il].begin() + (pos + 1)*size);
            if (!cos_sin.empty()) {
                g.kv->plan_turn_key(il, key.data(), cos_sin);
            }
            g.kv->plan_write_keys(il, idx, key);
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
        const auto & held = g.kv->get_cells(0).seq_pos_get(0);
        const auto   n_used = g.kv->get_cells(0).used_max_p1();
        for (const uint32_t il : g.layers) {
            const auto cos_sin = plan_cos_sin(runtime, il, model.get_rope_freq_base(cparams, il), -back);
            if (cos_sin.empty()) {
                continue;
            }
            auto keys = g.kv->plan_read_keys(il, 0, n_used);
            for (const auto & [cell_pos, idx] : held) {
                if (cell_pos >= (llama_pos) n_sinks) {
                    g.kv->plan_turn_key(il, keys.data() + idx*(keys.size()/n_used), cos_sin);
                }
            }
            g.kv->plan_write_keys(il, 0, keys);
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
    bool valid = cparams.plan->stream_origin >= 0 && cparams.plan->stream_origin % cparams.plan->stream_period() == 0;
    for (auto & g : groups) {
        io.read(&g.moved, sizeof(g.moved));
        valid = valid && g.moved >= 0;
    }
    if (!valid) {
        llama_plan_refuse("the saved state is damaged: it has a stream that stands nowhere");
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
