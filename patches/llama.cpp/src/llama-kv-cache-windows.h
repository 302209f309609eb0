#pragma once

#include "llama-kv-cache.h"

#include <string>
#include <utility>
#include <vector>

//
// llama_kv_cache_windows
//

// The positions that a sequence has read and that were not removed, whether a layer still holds their cells or not.
class llama_seq_history {
public:
    using range = std::pair<llama_pos, llama_pos>; // from inclusive, to exclusive

    void add   (llama_pos p0, llama_pos p1);
    void remove(llama_pos p0, llama_pos p1);
    void shift (llama_pos p0, llama_pos p1, llama_pos d); // what falls below 0 is gone

    bool empty() const { return ranges.empty(); }

    llama_pos min() const { return ranges.empty() ? -1 : ranges.front().first; }
    llama_pos max() const { return ranges.empty() ? -1 : ranges.back().second - 1; }

    // positions within [p0, p1)
    int64_t count(llama_pos p0, llama_pos p1) const;

    llama_seq_history within(llama_pos p0, llama_pos p1) const;

    const std::vector<range> & get() const { return ranges; }

private:
    std::vector<range> ranges; // ascending, apart from each other
};

// The KV cache of a plan with windows: layers of equal window share one llama_kv_cache, which is as large as the window.
// Cells are evicted that the next token of none of their sequences sees. The first n_sinks positions are never evicted.
//
// What a windowed layer has evicted is gone: a removal after which it would be seen again is refused (seq_rm returns false).
// A copy or a shift with that effect (they return nothing) blocks the sequence, and decoding it is refused.
class llama_kv_cache_windows : public llama_memory_i {
public:
    llama_kv_cache_windows(
            const llama_model         & model,
            const llama_memory_params & params,
            const llama_cparams       & cparams,
            const layer_filter_cb     & filter);

    ~llama_kv_cache_windows() = default;

    //
    // llama_memory_i
    //

    llama_memory_context_ptr init_batch(
            llama_batch_allocr & balloc,
            uint32_t n_ubatch,
            bool embd_all) override;

    llama_memory_context_ptr init_full() override;

    llama_memory_context_ptr init_update(llama_context * lctx, bool optimize) override;

    bool get_can_shift() const override;

    void clear(bool data) override;

    bool seq_rm  (llama_seq_id seq_id,                              llama_pos p0, llama_pos p1) override;
    void seq_cp  (llama_seq_id seq_id_src, llama_seq_id seq_id_dst, llama_pos p0, llama_pos p1) override;
    void seq_keep(llama_seq_id seq_id)                                                          override;
    void seq_add (llama_seq_id seq_id,                              llama_pos p0, llama_pos p1, llama_pos shift) override;
    void seq_div (llama_seq_id seq_id,                              llama_pos p0, llama_pos p1, int d) override;

    // the first position from which on every layer holds what it ever will: 0 while nothing was evicted
    llama_pos seq_pos_min(llama_seq_id seq_id) const override;
    llama_pos seq_pos_max(llama_seq_id seq_id) const override;

    std::map<ggml_backend_buffer_type_t, size_t> memory_breakdown() const override;

    void state_write(llama_io_write_i & io, llama_seq_id seq_id = -1, llama_state_seq_flags flags = 0) const override;
    void state_read (llama_io_read_i  & io, llama_seq_id seq_id = -1, llama_state_seq_flags flags = 0) override;

    //
    // llama_kv_cache_windows specific API
    //

    // cells of a cache for this window
    static uint32_t n_cells(uint32_t window, uint32_t n_sinks, uint32_t kv_size, uint32_t n_seq_max, uint32_t n_ubatch, bool unified);

    size_t           n_groups() const { return groups.size(); }
    llama_kv_cache * get_group(size_t i) const { return groups[i].kv.get(); }
    size_t           group_of(int32_t il) const { return layer_group[il]; }

    // to be called before a ubatch is computed
    void note(const llama_ubatch & ubatch);

private:
    struct group {
        uint32_t window = 0; // 0: all
        std::unique_ptr<llama_kv_cache> kv;
        std::vector<uint32_t> layers;

        llama_pos moved = 0; // streaming: how far the sinks' keys are turned beyond their own positions
    };

    // one sequence: what it has read, and why it cannot be continued
    struct sequence {
        llama_seq_history history;

        std::string blocked;
        bool        for_good = false; // until it is emptied
    };

    // positions within [p0, p1) that the group holds cells of
    int64_t n_held(const group & g, llama_seq_id seq_id, llama_pos p0, llama_pos p1) const;

    // would the next token see every cell that it has to, once [p0, p1) is removed?
    bool is_whole(llama_seq_id seq_id, llama_pos p0, llama_pos p1) const;

    void block  (llama_seq_id seq_id, const std::string & reason);
    void refresh(llama_seq_id seq_id);

    bool same_stream(llama_seq_id a, llama_seq_id b) const { return groups[0].kv->get_stream(a) == groups[0].kv->get_stream(b); }

    // streaming (llama-kv-cache-streaming.cpp)
    void stream_move(llama_pos pos);      // to where a ubatch that begins at pos has the sinks and the origin
    void stream_keep_sinks();             // remembers the sinks' keys, which must not have been moved yet
    void stream_write_sinks(const group & g) const;
    void stream_forget();                 // puts the sinks back: the sequence begins anew, or within them
    void stream_state_write(llama_io_write_i & io) const;
    void stream_state_read (llama_io_read_i  & io);

    const llama_model   & model;
    const llama_hparams & hparams;
    const llama_cparams & cparams;

    const uint32_t n_sinks;
    const uint32_t n_seqs; // sequence ids

    std::vector<group>    groups;
    std::vector<size_t>   layer_group; // [n_layer_all]
    std::vector<sequence> sequences;   // [n_seqs]

    // the sinks' keys as they were first written, by layer and sink; none before they are first moved
    std::vector<std::vector<uint8_t>> sink_rows;
};

class llama_kv_cache_windows_context : public llama_memory_context_i {
public:
    using slot_info_vec_t = llama_kv_cache::slot_info_vec_t;

    // used for errors
    llama_kv_cache_windows_context(llama_memory_status status);

    // used to create a full-cache context
    llama_kv_cache_windows_context(llama_kv_cache_windows * kv);

    // used to create an update context
    llama_kv_cache_windows_context(llama_kv_cache_windows * kv, llama_context * lctx, bool optimize);

    // used to create a batch processing context from a batch
    llama_kv_cache_windows_context(
            llama_kv_cache_windows * kv,
            std::vector<slot_info_vec_t> sinfos,
            std::vector<llama_ubatch> ubatches);

    virtual ~llama_kv_cache_windows_context() = default;

    bool next()  override;
    bool apply() override;

    llama_memory_status  get_status() const override;
    const llama_ubatch & get_ubatch() const override;

    size_t n_groups() const { return ctxs.size(); }
    size_t group_of(int32_t il) const { return kv->group_of(il); }

    const llama_kv_cache_context * get_group(size_t i) const;

private:
    llama_kv_cache_windows * kv = nullptr;

    size_t i_next = 0;

    std::vector<llama_ubatch> ubatches; // empty where no batch is computed

    std::vector<llama_memory_context_ptr> ctxs;

    llama_memory_status status;
};
