#include "llama-kv-cache-windows.h"

#include "llama-batch.h"
#include "llama-context.h"
#include "llama-impl.h"
#include "llama-io.h"
#include "llama-model.h"

#include <algorithm>
#include <cassert>
#include <limits>
#include <map>
#include <set>

static constexpr llama_pos POS_END = std::numeric_limits<llama_pos>::max();

static const char * const PLAN_GAP =
    "a layer with a window no longer holds tokens that the next one would see: empty the sequence and read its text again";

//
// llama_seq_history
//

void llama_seq_history::add(llama_pos p0, llama_pos p1) {
    if (p0 >= p1) {
        return;
    }
    std::vector<range> res;
    for (const auto & r : ranges) {
        if (r.second < p0 || r.first > p1) {
            res.push_back(r);
        } else {
            p0 = std::min(p0, r.first);
            p1 = std::max(p1, r.second);
        }
    }
    res.insert(std::upper_bound(res.begin(), res.end(), range(p0, p1)), range(p0, p1));
    ranges = std::move(res);
}

void llama_seq_history::remove(llama_pos p0, llama_pos p1) {
    std::vector<range> res;
    for (const auto & r : ranges) {
        if (r.first < std::min(r.second, p0)) {
            res.emplace_back(r.first, std::min(r.second, p0));
        }
        if (std::max(r.first, p1) < r.second) {
            res.emplace_back(std::max(r.first, p1), r.second);
        }
    }
    ranges = std::move(res);
}

void llama_seq_history::shift(llama_pos p0, llama_pos p1, llama_pos d) {
    const llama_seq_history moved = within(p0, p1);
    remove(p0, p1);
    for (const auto & r : moved.ranges) {
        add(std::max(0, r.first + d), r.second + d);
    }
}

int64_t llama_seq_history::count(llama_pos p0, llama_pos p1) const {
    int64_t n = 0;
    for (const auto & r : ranges) {
        n += std::max<int64_t>(0, (int64_t) std::min(r.second, p1) - std::max(r.first, p0));
    }
    return n;
}

llama_seq_history llama_seq_history::within(llama_pos p0, llama_pos p1) const {
    llama_seq_history res;
    for (const auto & r : ranges) {
        res.add(std::max(r.first, p0), std::min(r.second, p1));
    }
    return res;
}

//
// llama_kv_cache_windows
//

uint32_t llama_kv_cache_windows::n_cells(uint32_t window, uint32_t n_sinks, uint32_t kv_size, uint32_t n_seq_max, uint32_t n_ubatch, bool unified) {
    if (window == 0) {
        return kv_size;
    }
    const uint64_t n = ((uint64_t) window + n_sinks)*(unified ? n_seq_max : 1) + n_ubatch;

    // 256 as for the windows that a model has of its own
    return GGML_PAD((uint32_t) std::min<uint64_t>(kv_size, n), 256);
}

llama_kv_cache_windows::llama_kv_cache_windows(
        const llama_model         & model,
        const llama_memory_params & params,
        const llama_cparams       & cparams,
        const layer_filter_cb     & filter) :
    model(model), hparams(model.hparams), cparams(cparams),
    n_sinks(cparams.plan->plan->n_sinks),
    n_seqs(cparams.kv_unified || cparams.n_seq_max == 1 ? LLAMA_MAX_SEQ : cparams.n_seq_max),
    layer_group(model.hparams.n_layer_all, 0),
    sequences(n_seqs) {
    const auto & plan = *cparams.plan->plan;

    if (plan.streaming && cparams.n_seq_max > 1) {
        llama_plan_refuse(format("the context plan streams, which is done for one sequence, but the context has %u: make it with n_seq_max = 1", cparams.n_seq_max));
    }
    if (plan.streaming && model.split_mode() == LLAMA_SPLIT_MODE_TENSOR) {
        llama_plan_refuse("the context plan streams, which models that are split by tensor do not allow: split them by layer");
    }
    if (params.mem_other || params.ctx_type != LLAMA_CONTEXT_TYPE_DEFAULT) {
        llama_plan_refuse("the context plan has attention windows, which a drafting context does not allow: bake a method without them");
    }

    // the largest window first, 0 being all
    std::map<uint32_t, std::vector<uint32_t>, std::greater<uint32_t>> layers;
    for (uint32_t il = 0; il < hparams.n_layer_all; ++il) {
        if (hparams.has_kv(il) && (!filter || filter(il))) {
            const uint32_t window = il < plan.windows.size() ? plan.windows[il] : 0;
            layers[window == 0 ? UINT32_MAX : window].push_back(il);
        }
    }
    for (const auto & [key, ils] : layers) {
        group g;
        g.window = key == UINT32_MAX ? 0 : key;
        g.layers = ils;
        for (const uint32_t il : ils) {
            layer_group[il] = groups.size();
        }

        const uint32_t size = n_cells(g.window, n_sinks, cparams.n_ctx_seq, cparams.n_seq_max, cparams.n_ubatch, cparams.kv_unified);

        LLAMA_LOG_INFO("%s: creating a KV cache for %zu layers with %s, size = %u cells\n", __func__,
                ils.size(), g.window == 0 ? "no window" : format("a window of %u tokens", g.window).c_str(), size);

        g.kv = std::make_unique<llama_kv_cache>(
                model, hparams, params.type_k, params.type_v,
                !cparams.flash_attn, cparams.offload_kqv, cparams.kv_unified, size, cparams.n_seq_max, 1,
                g.window, g.window == 0 ? LLAMA_SWA_TYPE_NONE : LLAMA_SWA_TYPE_STANDARD, nullptr,
                [&ils](int32_t il) { return std::find(ils.begin(), ils.end(), (uint32_t) il) != ils.end(); }, nullptr, nullptr);
        if (g.window > 0) {
            g.kv->plan_set_sinks(n_sinks);
        }
        groups.push_back(std::move(g));
    }
    if (groups.empty()) {
        llama_plan_refuse("the context plan has attention windows, but no layer of the model has a KV cache");
    }
}

void llama_kv_cache_windows::clear(bool data) {
    for (auto & g : groups) {
        g.kv->clear(data);
    }
    std::fill(sequences.begin(), sequences.end(), sequence());
    stream_forget();
}

//
// what the layers hold of what they have to
//

int64_t llama_kv_cache_windows::n_held(const group & g, llama_seq_id seq_id, llama_pos p0, llama_pos p1) const {
    const auto & held = g.kv->get_cells(seq_id).seq_pos_get(seq_id);

    int64_t   n    = 0;
    llama_pos last = -1;
    for (auto it = held.lower_bound({ p0, 0 }); it != held.end() && it->first < p1; ++it) {
        n += it->first != last;
        last = it->first;
    }
    return n;
}

bool llama_kv_cache_windows::is_whole(llama_seq_id seq_id, llama_pos p0, llama_pos p1) const {
    llama_seq_history left = sequences[seq_id].history;
    left.remove(p0, p1);

    const llama_pos next = left.max() + 1;

    const auto holds = [&](const group & g, llama_pos from, llama_pos to) {
        int64_t n = n_held(g, seq_id, from, std::min(to, p0));
        if (p1 < to) {
            n += n_held(g, seq_id, std::max(from, p1), to);
        }
        return n == left.count(from, to);
    };

    return std::all_of(groups.begin(), groups.end(), [&](const group & g) {
        const llama_pos from = g.window == 0 ? 0 : std::max<int64_t>(0, (int64_t) next - g.window + 1);
        return holds(g, from, next) && holds(g, 0, std::min<int64_t>(n_sinks, from));
    });
}

void llama_kv_cache_windows::block(llama_seq_id seq_id, const std::string & reason) {
    LLAMA_LOG_ERROR("%s: sequence %d: %s\n", __func__, seq_id, reason.c_str());
    sequences[seq_id].blocked  = reason;
    sequences[seq_id].for_good = true;
}

void llama_kv_cache_windows::refresh(llama_seq_id seq_id) {
    auto & s = sequences[seq_id];
    if (!s.for_good) {
        s.blocked = is_whole(seq_id, POS_END, POS_END) ? "" : PLAN_GAP;
    }
}

//
// sequences
//

bool llama_kv_cache_windows::seq_rm(llama_seq_id seq_id, llama_pos p0, llama_pos p1) {
    if (seq_id >= (llama_seq_id) n_seqs) {
        return false;
    }
    p0 = std::max(p0, 0);
    p1 = p1 < 0 ? POS_END : p1;
    if (p0 >= p1) {
        return true;
    }

    const llama_seq_id from = seq_id < 0 ? 0 : seq_id;
    const llama_seq_id to   = seq_id < 0 ? n_seqs : seq_id + 1;

    // before anything is touched: a blocked sequence can only be emptied, or cut to where it is whole
    for (llama_seq_id s = from; s < to; ++s) {
        const auto & history = sequences[s].history;
        if (history.count(p0, p1) > 0 && history.count(0, p0) + history.count(p1, POS_END) > 0 && !is_whole(s, p0, p1)) {
            LLAMA_LOG_DEBUG("%s: removing positions [%d, %d) of sequence %d: %s\n", __func__, p0, p1, s, PLAN_GAP);
            return false;
        }
    }

    // the sinks that stay are put back, as those that follow are written anew
    if (p0 < (llama_pos) std::max(1u, n_sinks) && from == 0 && sequences[0].history.count(p1, POS_END) == 0) {
        stream_forget();
    }

    for (auto & g : groups) {
        g.kv->seq_rm(seq_id < 0 ? -1 : seq_id, p0, p1);
    }
    for (llama_seq_id s = from; s < to; ++s) {
        const bool had = !sequences[s].history.empty();
        sequences[s].history.remove(p0, p1);
        if ((p0 == 0 && p1 == POS_END) || (had && sequences[s].history.empty())) {
            for (auto & g : groups) {
                g.kv->seq_rm(s, -1, -1); // shared cells may have been shifted to where this sequence has no positions
            }
            sequences[s] = sequence();
        }
        refresh(s);
    }
    return true;
}

void llama_kv_cache_windows::seq_cp(llama_seq_id seq_id_src, llama_seq_id seq_id_dst, llama_pos p0, llama_pos p1) {
    if (seq_id_src == seq_id_dst || std::min(seq_id_src, seq_id_dst) < 0 || std::max(seq_id_src, seq_id_dst) >= (llama_seq_id) n_seqs) {
        return;
    }
    p0 = std::max(p0, 0);
    p1 = p1 < 0 ? POS_END : p1;

    const auto & src = sequences[seq_id_src];
    auto       & dst = sequences[seq_id_dst];

    if (cparams.plan->plan->streaming) {
        return block(seq_id_dst, "a sequence cannot be copied under a streaming context plan");
    }
    if (src.for_good) {
        return block(seq_id_dst, src.blocked);
    }
    if (same_stream(seq_id_src, seq_id_dst)) {
        for (auto & g : groups) {
            g.kv->seq_cp(seq_id_src, seq_id_dst, p0, p1);
        }
        const auto copied = src.history.within(p0, p1);
        for (const auto & r : copied.get()) {
            dst.history.add(r.first, r.second);
        }
    } else {
        if (src.history.count(0, p0) + src.history.count(p1, POS_END) > 0) {
            return block(seq_id_dst, "a part of a sequence cannot be copied to another stream: copy the whole and remove the rest, or make the context with kv_unified = true");
        }
        for (auto & g : groups) {
            g.kv->seq_cp(seq_id_src, seq_id_dst, -1, -1);
        }
        dst = src;
    }
    refresh(seq_id_dst);
}

void llama_kv_cache_windows::seq_keep(llama_seq_id seq_id) {
    if (seq_id < 0 || seq_id >= (llama_seq_id) n_seqs) {
        return;
    }
    for (auto & g : groups) {
        g.kv->seq_keep(seq_id);
    }
    for (llama_seq_id s = 0; s < (llama_seq_id) n_seqs; ++s) {
        if (s != seq_id && same_stream(s, seq_id)) {
            sequences[s] = sequence();
        }
    }
    if (sequences[0].history.empty()) {
        stream_forget();
    }
}

void llama_kv_cache_windows::seq_add(llama_seq_id seq_id, llama_pos p0, llama_pos p1, llama_pos shift) {
    if (seq_id < 0 || seq_id >= (llama_seq_id) n_seqs) {
        return;
    }
    p0 = std::max(p0, 0);
    p1 = p1 < 0 ? POS_END : p1;
    if (shift == 0 || sequences[seq_id].history.count(p0, p1) == 0) {
        return;
    }
    if (cparams.plan->plan->streaming) {
        return block(seq_id, "a sequence cannot be shifted under a streaming context plan: empty it and read its text again");
    }
    if (!get_can_shift()) {
        return block(seq_id, "the positions of this " + model.arch_name() + " model cannot be shifted: empty the sequence and read its text again");
    }

    // a cell that two sequences share has one position: the other one is shifted with it, unasked
    for (const auto & g : groups) {
        const auto & cells = g.kv->get_cells(seq_id);
        for (const auto & [pos, idx] : cells.seq_pos_get(seq_id)) {
            if (pos >= p0 && pos < p1 && cells.seq_count(idx) > 1) {
                for (llama_seq_id s = 0; s < (llama_seq_id) n_seqs; ++s) {
                    if (s != seq_id && cells.seq_has(idx, s) && !sequences[s].for_good) {
                        block(s, "cells that the sequence shares with another were shifted with it: empty the sequence and read its text again");
                    }
                }
            }
        }
    }
    for (auto & g : groups) {
        g.kv->seq_add(seq_id, p0, p1, shift);
    }
    sequences[seq_id].history.shift(p0, p1, shift);
    refresh(seq_id);
}

void llama_kv_cache_windows::seq_div(llama_seq_id seq_id, llama_pos p0, llama_pos p1, int d) {
    if (seq_id < 0 || seq_id >= (llama_seq_id) n_seqs || d == 1 || sequences[seq_id].history.count(std::max(p0, 0), p1 < 0 ? POS_END : p1) == 0) {
        return;
    }
    block(seq_id, format("the positions of a sequence cannot be divided under a %s: empty it and read its text again",
            cparams.plan->plan->streaming ? "streaming context plan" : "context plan with windows"));
}

llama_pos llama_kv_cache_windows::seq_pos_min(llama_seq_id seq_id) const {
    if (seq_id < 0 || seq_id >= (llama_seq_id) n_seqs) {
        return -1;
    }
    const auto & history = sequences[seq_id].history;

    llama_pos res = history.min();
    for (const auto & g : groups) {
        if (g.window == 0) {
            continue;
        }
        const auto & held = g.kv->get_cells(seq_id).seq_pos_get(seq_id);

        // downwards as long as nothing is missing in between
        llama_pos first = history.max() + 1;
        for (auto it = held.rbegin(); it != held.rend(); ++it) {
            if (history.count(it->first + 1, first) > 0) {
                break;
            }
            first = it->first;
        }
        if (history.count(n_sinks, first) > 0) {
            res = std::max(res, first);
        }
    }
    return res;
}

llama_pos llama_kv_cache_windows::seq_pos_max(llama_seq_id seq_id) const {
    return seq_id < 0 || seq_id >= (llama_seq_id) n_seqs ? -1 : sequences[seq_id].history.max();
}

std::map<ggml_backend_buffer_type_t, size_t> llama_kv_cache_windows::memory_breakdown() const {
    std::map<ggml_backend_buffer_type_t, size_t> res;
    for (const auto & g : groups) {
        for (const auto & [buft, size] : g.kv->memory_breakdown()) {
            res[buft] += size;
        }
    }
    return res;
}

bool llama_kv_cache_windows::get_can_shift() const {
    return !cparams.plan->plan->streaming && groups[0].kv->get_can_shift();
}

void llama_kv_cache_windows::note(const llama_ubatch & ubatch) {
    if (cparams.plan->plan->streaming) {
        stream_move(ubatch.pos[0]);
    }
    for (uint32_t i = 0; i < ubatch.n_tokens; ++i) {
        for (int32_t s = 0; s < ubatch.n_seq_id[i]; ++s) {
            sequences[ubatch.seq_id[i][s]].history.add(ubatch.pos[i], ubatch.pos[i] + 1);
        }
    }
}

//
// batches
//

llama_memory_context_ptr llama_kv_cache_windows::init_batch(llama_batch_allocr & balloc, uint32_t n_ubatch, bool embd_all) {
    GGML_UNUSED(embd_all);

    for (llama_seq_id s = 0; s < (llama_seq_id) n_seqs; ++s) {
        if (!sequences[s].blocked.empty() && balloc.seq_pos_max(s) >= 0) {
            llama_plan_set_error(sequences[s].blocked);
            return std::make_unique<llama_kv_cache_windows_context>(LLAMA_MEMORY_STATUS_FAILED_COMPUTE);
        }
    }

    const bool      one_stream = groups[0].kv->get_n_stream() == 1;
    const llama_pos block_size = cparams.plan->stream_block();

    // a ubatch of a stream lies within one block, so that nothing depends on n_ubatch
    const auto n_most = [&]() {
        if (block_size == 0) {
            return n_ubatch;
        }
        const llama_pos next = balloc.seq_pos_min(0) + balloc.get_n_used();
        return std::min<uint32_t>(n_ubatch, block_size - next % block_size);
    };

    for (const bool simple : { true, false }) {
        if (simple && !one_stream) {
            continue; // streams require equal splits
        }
        balloc.split_reset();

        std::vector<llama_ubatch> ubatches;
        while (true) {
            auto ubatch = simple ? balloc.split_simple(n_most()) : balloc.split_equal(n_most(), !one_stream, 0);
            if (ubatch.n_tokens == 0) {
                break;
            }
            ubatches.push_back(std::move(ubatch)); // NOLINT
        }
        if (balloc.get_n_used() < balloc.get_n_tokens()) {
            continue;
        }

        std::vector<llama_kv_cache::slot_info_vec_t> sinfos;
        for (auto & g : groups) {
            sinfos.push_back(g.kv->prepare(ubatches));
            if (sinfos.back().empty()) {
                break;
            }
        }
        if (!sinfos.back().empty()) {
            return std::make_unique<llama_kv_cache_windows_context>(this, std::move(sinfos), std::move(ubatches));
        }
    }
    return std::make_unique<llama_kv_cache_windows_context>(LLAMA_MEMORY_STATUS_FAILED_PREPARE);
}

llama_memory_context_ptr llama_kv_cache_windows::init_full() {
    return std::make_unique<llama_kv_cache_windows_context>(this);
}

llama_memory_context_ptr llama_kv_cache_windows::init_update(llama_context * lctx, bool optimize) {
    return std::make_unique<llama_kv_cache_windows_context>(this, lctx, optimize);
}

//
// state
//

void llama_kv_cache_windows::state_write(llama_io_write_i & io, llama_seq_id seq_id, llama_state_seq_flags flags) const {
    const llama_seq_id from = seq_id < 0 ? 0 : seq_id;
    const llama_seq_id to   = seq_id < 0 ? n_seqs : seq_id + 1;

    for (llama_seq_id s = from; s < to; ++s) {
        if (!sequences[s].blocked.empty()) {
            llama_plan_refuse(sequences[s].blocked);
        }
        const auto & ranges = sequences[s].history.get();
        const uint32_t n_ranges = ranges.size();
        io.write(&n_ranges, sizeof(n_ranges));
        for (const auto & r : ranges) {
            io.write(&r.first,  sizeof(r.first));
            io.write(&r.second, sizeof(r.second));
        }
    }
    stream_state_write(io);

    for (const auto & g : groups) {
        if (g.window > 0 || (flags & LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY) == 0) {
            g.kv->state_write(io, seq_id, flags);
        }
    }
}

void llama_kv_cache_windows::state_read(llama_io_read_i & io, llama_seq_id seq_id, llama_state_seq_flags flags) {
    const bool partial = flags & LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY;

    if (cparams.plan->plan->streaming && seq_id > 0) {
        llama_plan_refuse(format("a streaming context has the sequence 0 alone, so a state cannot be restored into %d", seq_id));
    }

    // what a partial state leaves out is what the context holds already
    const bool kept = partial && groups[0].window == 0;

    uint32_t n_saved = seq_id < 0 ? n_seqs : 1;
    std::vector<llama_seq_history> saved(n_saved);
    for (auto & history : saved) {
        uint32_t n_ranges;
        io.read(&n_ranges, sizeof(n_ranges));
        for (uint32_t i = 0; i < n_ranges; ++i) {
            llama_pos p0;
            llama_pos p1;
            io.read(&p0, sizeof(p0));
            io.read(&p1, sizeof(p1));
            if (p0 < 0 || p1 <= p0 || p0 <= history.max()) {
                llama_plan_refuse("the saved state is damaged: its positions do not rise");
            }
            history.add(p0, p1);
        }
    }

    try {
        stream_state_read(io);
        for (auto & g : groups) {
            if (g.window > 0 || !partial) {
                if (seq_id >= 0) {
                    g.kv->seq_rm(seq_id, -1, -1); // reading an empty sequence removes nothing
                }
                g.kv->state_read(io, seq_id, flags);
            }
        }
    } catch (...) {
        // whole or not at all
        for (auto & g : groups) {
            g.kv->state_clear(seq_id);
        }
        for (uint32_t i = 0; i < n_saved; ++i) {
            sequences[seq_id < 0 ? i : seq_id] = sequence();
        }
        stream_forget();
        throw;
    }

    for (uint32_t i = 0; i < n_saved; ++i) {
        const llama_seq_id s = seq_id < 0 ? i : seq_id;
        if (kept) {
            for (const auto & r : saved[i].get()) {
                sequences[s].history.add(r.first, r.second);
            }
        } else {
            sequences[s] = { saved[i], "", false };
        }
        refresh(s);
    }
}

//
// llama_kv_cache_windows_context
//

llama_kv_cache_windows_context::llama_kv_cache_windows_context(llama_memory_status status) : status(status) {}

llama_kv_cache_windows_context::llama_kv_cache_windows_context(llama_kv_cache_windows * kv) : kv(kv), status(LLAMA_MEMORY_STATUS_SUCCESS) {
    for (size_t i = 0; i < kv->n_groups(); ++i) {
        ctxs.push_back(kv->get_group(i)->init_full());
    }
}

llama_kv_cache_windows_context::llama_kv_cache_windows_context(llama_kv_cache_windows * kv, llama_context * lctx, bool optimize) :
    kv(kv), status(LLAMA_MEMORY_STATUS_NO_UPDATE) {
    for (size_t i = 0; i < kv->n_groups(); ++i) {
        ctxs.push_back(kv->get_group(i)->init_update(lctx, optimize));
        status = llama_memory_status_combine(status, ctxs.back()->get_status());
    }
}

llama_kv_cache_windows_context::llama_kv_cache_windows_context(
        llama_kv_cache_windows * kv,
        std::vector<slot_info_vec_t> sinfos,
        std::vector<llama_ubatch> ubatches) :
    kv(kv), ubatches(std::move(ubatches)), status(LLAMA_MEMORY_STATUS_SUCCESS) {
    for (size_t i = 0; i < kv->n_groups(); ++i) {
        ctxs.push_back(std::make_unique<llama_kv_cache_context>(kv->get_group(i), std::move(sinfos[i]), this->ubatches));
    }
}

bool llama_kv_cache_windows_context::next() {
    assert(status == LLAMA_MEMORY_STATUS_SUCCESS);

    for (auto & ctx : ctxs) {
        ctx->next();
    }
    return ++i_next < ubatches.size();
}

bool llama_kv_cache_windows_context::apply() {
    assert(!llama_memory_status_is_fail(status));

    if (!ubatches.empty()) {
        kv->note(ubatches[i_next]); // before the cells are taken: a stream moves by what they hold now
    }
    bool res = true;
    for (auto & ctx : ctxs) {
        res = res & ctx->apply();
    }
    return res;
}

llama_memory_status llama_kv_cache_windows_context::get_status() const {
    return status;
}

const llama_ubatch & llama_kv_cache_windows_context::get_ubatch() const {
    assert(status == LLAMA_MEMORY_STATUS_SUCCESS);

    return ubatches[i_next];
}

const llama_kv_cache_context * llama_kv_cache_windows_context::get_group(size_t i) const {
    assert(status == LLAMA_MEMORY_STATUS_SUCCESS);

    return static_cast<const llama_kv_cache_context *>(ctxs[i].get());
}

//
// llama_kv_cache
//

bool llama_kv_cache::plan_evictable(const llama_kv_cells & cells, uint32_t idx, llama_pos ahead) const {
    if (plan_sinks < 0 || cells.is_empty(idx) || cells.pos_get(idx) < plan_sinks) {
        return false;
    }
    for (llama_seq_id s = 0; s < LLAMA_MAX_SEQ; ++s) {
        if (cells.seq_has(idx, s) && !llama_hparams::is_masked_swa(n_swa, swa_type, cells.pos_get(idx), cells.seq_pos_max(s) + ahead)) {
            return false;
        }
    }
    return true;
}
