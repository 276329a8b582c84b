/* memory — device memory that is the host's: plain allocations, plain copies. */

static void *ref_alloc(kernels *k, int64_t bytes) {
    (void)k;
    void *dev = NULL;
    const size_t size = bytes > 0 ? (size_t)bytes : 1;
    if (posix_memalign(&dev, 64, size)) return NULL;
    return memset(dev, 0, size);
}

static void ref_release(kernels *k, void *dev) {
    (void)k;
    free(dev);
}

static void ref_upload(kernels *k, void *dev, const void *host, int64_t bytes) {
    (void)k;
    if (bytes > 0) memcpy(dev, host, (size_t)bytes);
}

static void ref_download(kernels *k, void *host, const void *dev, int64_t bytes) {
    (void)k;
    if (bytes > 0) memcpy(host, dev, (size_t)bytes);
}

static void ref_copy(kernels *k, void *dev, const void *from, int64_t bytes) {
    (void)k;
    if (bytes > 0) memmove(dev, from, (size_t)bytes);
}

static void ref_zero(kernels *k, void *dev, int64_t bytes) {
    (void)k;
    if (bytes > 0) memset(dev, 0, (size_t)bytes);
}

static void ref_convert(kernels *k, void *dev, dtype type, const void *from, dtype from_type, int64_t n) {
    (void)k;
    if (n > 0) dtype_convert(dev, type, from, from_type, n);
}

static void ref_close(kernels *k) {
    free(k->state);
    free(k);
}
