// Planted: a 16-byte load from an address that is a multiple of 4 only.
extern "C" __global__ void planted(const uint32_t* in, uint32_t* out) {
    const uint4 four = *(const uint4*)(in + 1u + 4u * threadIdx.x);
    out[threadIdx.x] = four.x + four.y + four.z + four.w;
}
