// Correct: each integer intrinsic once, for comparison with Python.
extern "C" __global__ void intrinsics(const uint32_t* in, uint32_t* out) {
    const uint32_t lane = threadIdx.x, x = in[lane], y = in[(lane + 1u) & 31u];
    uint32_t* row = out + 24u * lane;
    row[0] = (uint32_t)__popc(x);
    row[1] = (uint32_t)__clz((int)x);
    row[2] = (uint32_t)__ffs((int)x);
    row[3] = __brev(x);
    row[4] = __funnelshift_l(x, y, lane);
    row[5] = __funnelshift_r(x, y, lane);
    row[6] = __umulhi(x, y);
    row[7] = __byte_perm(x, y, 0x5140u);
    row[8] = __shfl_sync(0xffffffffu, x, lane * 5u);
    row[9] = __shfl_up_sync(0xffffffffu, x, 3u);
    row[10] = __shfl_down_sync(0xffffffffu, x, 3u);
    row[11] = __shfl_xor_sync(0xffffffffu, x, 5u);
    row[12] = __shfl_sync(0xffffffffu, x, 1u, 8u);
    row[13] = __shfl_up_sync(0xffffffffu, x, 1u, 8u);
    row[14] = __shfl_down_sync(0xffffffffu, x, 1u, 8u);
    row[15] = __ballot_sync(0xffffffffu, x & 1u);
    row[16] = (uint32_t)__any_sync(0xffffffffu, x == 77u);
    row[17] = (uint32_t)__all_sync(0xffffffffu, x < 78u);
    row[18] = __match_any_sync(0xffffffffu, x & 7u);
    row[19] = (uint32_t)__syncthreads_count(x & 1u);
    row[20] = (uint32_t)__syncthreads_and(x & 1u);
    row[21] = (uint32_t)__syncthreads_or(x & 1u);
    row[22] = min(x, y);
    row[23] = max(x, y);
}
