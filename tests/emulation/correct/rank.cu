// Correct: ranks equal keys within a warp, stable by lane, with cursors that the warp shares.
extern "C" __global__ void rank_keys(const uint32_t* keys, uint32_t* positions, uint32_t rows) {
    __shared__ uint32_t cursors[2][8];
    const uint32_t lane = threadIdx.x & 31u, warp = threadIdx.x / 32u;
    if (lane < 8u) cursors[warp][lane] = 0u;
    __syncwarp();
    for (uint32_t row = 0; row < rows; ++row) {
        const uint32_t at = (warp * rows + row) * 32u + lane;
        const uint32_t key = keys[at];
        const uint32_t same = __match_any_sync(0xffffffffu, key);
        const uint32_t rank = (uint32_t)__popc(same & ((1u << lane) - 1u));
        positions[at] = cursors[warp][key] + rank;
        __syncwarp();
        if (rank == 0u) cursors[warp][key] += (uint32_t)__popc(same);
        __syncwarp();
    }
}
