// Planted: two halves of a warp name different masks in what is meant as one exchange.
extern "C" __global__ void planted(uint32_t* out) {
    const uint32_t mask = threadIdx.x < 16u ? 0xffffffffu : 0xffff0000u;
    out[threadIdx.x] = __ballot_sync(mask, threadIdx.x & 1u);
    __syncwarp();
}
