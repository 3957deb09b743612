// Planted: lanes read what their neighbour wrote with a shuffle, which orders no memory, in between.
extern "C" __global__ void planted(uint32_t* out) {
    __shared__ uint32_t turn[32];
    turn[threadIdx.x] = threadIdx.x;
    const uint32_t other = __shfl_xor_sync(0xffffffffu, threadIdx.x, 1u);
    out[threadIdx.x] = turn[other];
}
