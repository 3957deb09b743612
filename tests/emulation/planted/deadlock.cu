// Planted: half of a warp waits at a warp operation, half at the block's barrier.
extern "C" __global__ void planted(uint32_t* out) {
    if (threadIdx.x & 1u)
        __syncwarp();
    else
        __syncthreads();
    out[threadIdx.x] = 1u;
}
