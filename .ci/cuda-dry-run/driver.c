/* A stand-in for NVIDIA's driver, libcuda.so.1, on a machine without a GPU.
 *
 * It answers as one GPU would, gives out addresses with no memory behind them, has ptxas compile
 * every kernel that is loaded, checks every copy and launch, and computes nothing: what is read back
 * from the "device" is zeros. One line of CUDA_DRY_RUN_TRACE for each event:
 *
 *   M id threads name registers spill_store spill_load shared    a kernel that ptxas accepts
 *   X name message                                               one that it refuses
 *   L id gx gy gz bx by bz shared                                a launch
 *   A address bytes    F address bytes                           device memory taken, freed
 *   H bytes  D bytes  C bytes  Z bytes                           to the device, back, within, filled
 *   P direction width height pitch                               a copy of rows
 *   W what                                                       the host waits
 *   E message                                                    what a GPU would have refused
 *
 * CUDA_DRY_RUN_GPU: h100 (default), a100 or l40s. CUDA_DRY_RUN_PTXAS: the compiler; without it
 * nothing is compiled. CUDA_DRY_RUN_CACHE: a folder for its answers. CUDA_DRY_RUN_TUNING=first: whatever autotuning
 * tries first is as fast as can be, so that it tries nothing else. CUDA_DRY_RUN_FIRST: the first number
 * of 4 bytes that is read back, for the sum by which `sana` finds out whether a device computes.
 * Only what cubecl calls exists: cudarc looks each name up at its first call. */
#define _GNU_SOURCE
#include <pthread.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

typedef uint64_t address;
enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_PTX = 218, NOT_FOUND = 500,
       ILLEGAL_ADDRESS = 700, OUT_OF_RESOURCES = 701 };

static const struct gpu { const char *key, *name; int major, minor, processors, shared; size_t memory; } gpus[] = {
    {"h100", "NVIDIA H100 80GB HBM3 (dry run)", 9, 0, 132, 232448, (size_t)80 << 30},
    {"a100", "NVIDIA A100-SXM4-80GB (dry run)", 8, 0, 108, 166912, (size_t)80 << 30},
    {"l40s", "NVIDIA L40S (dry run)", 8, 9, 142, 101376, (size_t)48 << 30},
};
static const struct gpu *gpu(void) {
    const char *key = getenv("CUDA_DRY_RUN_GPU");
    for (size_t i = 0; key && i < sizeof gpus / sizeof *gpus; i++)
        if (!strcmp(key, gpus[i].key)) return &gpus[i];
    return &gpus[0];
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- the trace; the lock is held ---- */
static FILE *trace_file(void) {
    static FILE *file;
    if (!file) {
        const char *path = getenv("CUDA_DRY_RUN_TRACE");
        file = fopen(path ? path : "/dev/null", "we");
        if (!file) { perror("CUDA_DRY_RUN_TRACE"); abort(); }
        setvbuf(file, NULL, _IOFBF, 1 << 16);
    }
    return file;
}
static void say(const char *format, ...) {
    va_list values;
    va_start(values, format);
    vfprintf(trace_file(), format, values);
    va_end(values);
    fputc('\n', trace_file());
}
static int fault(int status, const char *format, ...) {
    va_list values;
    va_start(values, format);
    fputs("E ", trace_file());
    vfprintf(trace_file(), format, values);
    va_end(values);
    fputc('\n', trace_file());
    return status;
}
__attribute__((destructor)) static void finish(void) { fflush(trace_file()); }

/* ---- device memory: live ranges in the order of their addresses, which are never given twice ---- */
static struct range { address start; size_t size; } *ranges;
static size_t range_count, range_room, in_use;
static address next_address = 0x7f0000000000;

static struct range *range_of(address at) {
    size_t low = 0, high = range_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (ranges[middle].start + ranges[middle].size <= at) low = middle + 1; else high = middle;
    }
    return low < range_count && ranges[low].start <= at ? &ranges[low] : NULL;
}
static int covers(address at, size_t size) {
    struct range *range = range_of(at);
    return size == 0 || (range && at + size <= range->start + range->size);
}
static int take(address *out, size_t size) {
    if (size == 0) return fault(INVALID_VALUE, "an allocation of no bytes");
    if (in_use + size > gpu()->memory) return fault(OUT_OF_MEMORY, "out of memory: %zu in use, %zu wanted", in_use, size);
    if (range_count == range_room) {
        range_room = range_room ? 2 * range_room : 1024;
        ranges = realloc(ranges, range_room * sizeof *ranges);
        if (!ranges) abort();
    }
    ranges[range_count++] = (struct range){next_address, size};
    *out = next_address;
    next_address += (size + 0x1fffff) / 0x200000 * 0x200000 + 0x200000;
    in_use += size;
    say("A %lx %zu", *out, size);
    return OK;
}
static int give_back(address at) {
    struct range *range = range_of(at);
    if (!range || range->start != at) return fault(INVALID_VALUE, "free of %lx, which is not the start of an allocation", at);
    say("F %lx %zu", at, range->size);
    in_use -= range->size;
    memmove(range, range + 1, (size_t)(ranges + --range_count - range) * sizeof *range);
    return OK;
}
#define LOCKED(expression) do { pthread_mutex_lock(&lock); int status = (expression); pthread_mutex_unlock(&lock); return status; } while (0)

int cuMemAlloc_v2(address *out, size_t size) { LOCKED(take(out, size)); }
int cuMemAllocAsync(address *out, size_t size, void *stream) { (void)stream; LOCKED(take(out, size)); }
int cuMemFree_v2(address at) { LOCKED(give_back(at)); }
int cuMemFreeAsync(address at, void *stream) { (void)stream; LOCKED(give_back(at)); }
int cuMemAllocHost_v2(void **out, size_t size) { return posix_memalign(out, 4096, size ? size : 1) ? OUT_OF_MEMORY : OK; }
int cuMemHostAlloc(void **out, size_t size, unsigned flags) { (void)flags; return cuMemAllocHost_v2(out, size); }
int cuMemFreeHost(void *at) { free(at); return OK; }
int cuMemGetInfo_v2(size_t *unused, size_t *total) { *total = gpu()->memory; *unused = *total - in_use; return OK; }

/* ---- copies ---- */
static int moved(char kind, address at, size_t size) {
    if (!covers(at, size)) return fault(INVALID_VALUE, "a copy (%c) of %zu bytes at %lx is outside of what is allocated", kind, size, at);
    say("%c %zu", kind, size);
    return OK;
}
static int to_host(void *out, address at, size_t size) {
    int status = moved('D', at, size);
    static int answered;
    const char *first = getenv("CUDA_DRY_RUN_FIRST");
    if (status == OK) memset(out, 0, size);
    if (status == OK && first && size == sizeof(float) && !answered++) *(float *)out = strtof(first, NULL);
    return status;
}
static int within(address to, address from, size_t size) {
    if (!covers(from, size)) return fault(INVALID_VALUE, "a copy of %zu bytes from %lx is outside of what is allocated", size, from);
    return moved('C', to, size);
}
int cuMemcpyHtoDAsync_v2(address to, const void *from, size_t size, void *s) { (void)from; (void)s; LOCKED(moved('H', to, size)); }
int cuMemcpyHtoD_v2(address to, const void *from, size_t size) { (void)from; LOCKED(moved('H', to, size)); }
int cuMemcpyDtoHAsync_v2(void *to, address from, size_t size, void *s) { (void)s; LOCKED(to_host(to, from, size)); }
int cuMemcpyDtoH_v2(void *to, address from, size_t size) { LOCKED(to_host(to, from, size)); }
int cuMemcpyDtoDAsync_v2(address to, address from, size_t size, void *s) { (void)s; LOCKED(within(to, from, size)); }
int cuMemcpyDtoD_v2(address to, address from, size_t size) { LOCKED(within(to, from, size)); }
int cuMemsetD8Async(address to, unsigned char value, size_t size, void *s) { (void)value; (void)s; LOCKED(moved('Z', to, size)); }

struct rows {
    size_t from_x, from_y; int from_kind; const void *from_host; address from; void *from_array; size_t from_pitch;
    size_t to_x, to_y; int to_kind; void *to_host; address to; void *to_array; size_t to_pitch;
    size_t width, height;
};
static int rows(const struct rows *copy) {
    int up = copy->to_kind == 2, down = copy->from_kind == 2;
    size_t pitch = up ? copy->to_pitch : copy->from_pitch;
    if (copy->width > pitch || pitch > 2147483647u) return fault(INVALID_VALUE, "rows of %zu bytes, %zu apart", copy->width, pitch);
    size_t span = copy->height ? (copy->height - 1) * pitch + copy->width : 0;
    if ((up && !covers(copy->to, span)) || (down && !covers(copy->from, span)))
        return fault(INVALID_VALUE, "a copy of %zu rows of %zu bytes is outside of what is allocated", copy->height, copy->width);
    say("P %s %zu %zu %zu", up ? (down ? "within" : "up") : "down", copy->width, copy->height, pitch);
    if (!up)
        for (size_t y = 0; y < copy->height; y++) memset((char *)copy->to_host + y * copy->to_pitch, 0, copy->width);
    return OK;
}
int cuMemcpy2DAsync_v2(const struct rows *copy, void *stream) { (void)stream; LOCKED(rows(copy)); }

/* ---- kernels ---- */
struct kernel { int id, threads[3], exact, registers, shared, dynamic, parameters; char pointer[64]; char *name; };

/* Runs ptxas, or reads what it said of the same text; the exit status is on the first line. */
static char *compiled(const char *ptx, int *status) {
    const char *ptxas = getenv("CUDA_DRY_RUN_PTXAS"), *cache = getenv("CUDA_DRY_RUN_CACHE");
    *status = 0;
    if (!ptxas) return strdup("");
    uint64_t hash[2] = {14695981039346656037u, 0x9e3779b97f4a7c15u};
    for (const char *at = ptx; *at; at++)
        for (int i = 0; i < 2; i++) hash[i] = (hash[i] ^ (unsigned char)*at) * (i ? 0x100000001b5u : 1099511628211u);
    char arch[32], stem[4096], path[4160], temporary[4160], out[4160], line[4096];
    int version = gpu()->major * 10 + gpu()->minor;
    snprintf(arch, sizeof arch, "sm_%d%s", version, version >= 90 ? "a" : "");
    snprintf(stem, sizeof stem, "%s/%016lx%016lx-%s", cache ? cache : "/tmp", hash[0], hash[1], arch);
    snprintf(path, sizeof path, "%s.log", stem);
    FILE *file = fopen(path, "re");
    if (!file) {
        snprintf(temporary, sizeof temporary, "%s.%d.ptx", stem, getpid());
        snprintf(out, sizeof out, "%s.%d.log", stem, getpid());
        FILE *source = fopen(temporary, "we");
        if (!source) { perror(temporary); abort(); }
        fputs(ptx, source);
        fclose(source);
        /* A reader never sees half a file: it is renamed when it is complete. */
        char *arguments[] = {"sh", "-c", "\"$0\" -arch=\"$1\" -v \"$2\" -o /dev/null > \"$3.text\" 2>&1; code=$?; "
            "{ echo $code; cat \"$3.text\"; } > \"$3\"; rm -f \"$3.text\"; mv \"$3\" \"$4\"; "
            "if [ $code = 0 ]; then rm -f \"$2\"; else mv \"$2\" \"${4%.log}.ptx\"; fi",
            (char *)ptxas, arch, temporary, out, path, NULL};
        extern char **environ;
        pid_t child;
        if (posix_spawn(&child, "/bin/sh", NULL, NULL, arguments, environ)) { perror("sh"); abort(); }
        waitpid(child, NULL, 0);
        file = fopen(path, "re");
        if (!file) { perror(path); abort(); }
    }
    if (!fgets(line, sizeof line, file)) line[0] = 0;
    *status = atoi(line);
    char *text = NULL;
    size_t size = 0, got;
    FILE *memory = open_memstream(&text, &size);
    while ((got = fread(line, 1, sizeof line, file)) > 0) fwrite(line, 1, got, memory);
    fclose(memory);
    fclose(file);
    return text;
}
static int number_before(const char *text, const char *unit) {
    const char *at = strstr(text, unit);
    if (!at) return 0;
    while (at > text && at[-1] == ' ') at--;
    while (at > text && at[-1] >= '0' && at[-1] <= '9') at--;
    return atoi(at);
}
/* The first (and with cubecl only) entry of the text: its name, parameters and number of units. */
static struct kernel *entry_of(const char *ptx) {
    const char *at = strstr(ptx, ".entry ");
    if (!at) return NULL;
    struct kernel *kernel = calloc(1, sizeof *kernel);
    at += strlen(".entry ");
    kernel->name = strndup(at, strcspn(at, "( \n\t"));
    const char *body = strchr(at, '{'), *end = strchr(at, ')');
    for (const char *p = at; end && (p = strstr(p, ".param ")) && p < end; p += strlen(".param ")) {
        const char *type = p + strlen(".param ");
        if (kernel->parameters < 64) kernel->pointer[kernel->parameters] = !strncmp(type, ".u64", 4) || !strncmp(type, ".b64", 4);
        kernel->parameters++;
    }
    const char *units = strstr(at, ".reqntid"), *limit = strstr(at, ".maxntid");
    kernel->exact = units && body && units < body;
    if (!kernel->exact) units = limit && body && limit < body ? limit : NULL;
    if (units && sscanf(units + 8, " %d , %d , %d", &kernel->threads[0], &kernel->threads[1], &kernel->threads[2]) < 1) kernel->exact = 0;
    for (int i = 0; units && i < 3; i++) if (!kernel->threads[i]) kernel->threads[i] = 1;
    return kernel;
}
int cuModuleLoadData(struct kernel **out, const char *ptx) {
    static int count;
    int status;
    struct kernel *kernel = entry_of(ptx);
    char *said = compiled(ptx, &status);
    pthread_mutex_lock(&lock);
    if (!kernel) status = fault(INVALID_PTX, "a module without an entry");
    else if (status) {
        const char *cause = strstr(said, "ptxas ");
        cause = strstr(said, "error") && cause ? cause : said;
        say("X %s %.*s", kernel->name, (int)strcspn(cause, "\n"), cause);
        status = INVALID_PTX;
    } else {
        kernel->id = count++;
        kernel->registers = number_before(said, "registers");
        kernel->shared = number_before(said, "bytes smem");
        say("M %d %d %s %d %d %d %d", kernel->id, kernel->threads[0] * kernel->threads[1] * kernel->threads[2], kernel->name,
            kernel->registers, number_before(said, "bytes spill stores"), number_before(said, "bytes spill loads"), kernel->shared);
        *out = kernel;
    }
    fflush(trace_file());
    pthread_mutex_unlock(&lock);
    free(said);
    return status;
}
int cuModuleGetFunction(struct kernel **out, struct kernel *module, const char *name) {
    *out = module;
    return strcmp(module->name, name) ? NOT_FOUND : OK;
}
int cuModuleUnload(void *module) { (void)module; return OK; }

static uint64_t launches, ceilings; /* the latter: what cubecl measures a GPU's limits with */
static int attribute(struct kernel *kernel, int which, int value) {
    if (which != 8) return OK; /* largest dynamic shared memory */
    if (value + kernel->shared > gpu()->shared) return fault(INVALID_VALUE, "%s: %d bytes of shared memory", kernel->name, value);
    kernel->dynamic = value;
    return OK;
}
int cuFuncSetAttribute(struct kernel *kernel, int which, int value) { LOCKED(attribute(kernel, which, value)); }

static int launch(struct kernel *kernel, const unsigned grid[3], const unsigned block[3], unsigned shared, void **arguments) {
    uint64_t units = (uint64_t)block[0] * block[1] * block[2];
    if (!units || units > 1024 || block[0] > 1024 || block[1] > 1024 || block[2] > 64)
        return fault(INVALID_VALUE, "%s: a block of %u x %u x %u", kernel->name, block[0], block[1], block[2]);
    if (!grid[0] || !grid[1] || !grid[2] || grid[0] > 2147483647u || grid[1] > 65535 || grid[2] > 65535)
        return fault(INVALID_VALUE, "%s: a grid of %u x %u x %u", kernel->name, grid[0], grid[1], grid[2]);
    for (int i = 0; i < 3; i++)
        if (kernel->threads[0] && (kernel->exact ? block[i] != (unsigned)kernel->threads[i] : 0))
            return fault(INVALID_VALUE, "%s: compiled for another block", kernel->name);
    if (shared + kernel->shared > 49152 && (int)shared > kernel->dynamic)
        return fault(INVALID_VALUE, "%s: %u bytes of dynamic shared memory, %d allowed", kernel->name, shared, kernel->dynamic);
    /* Registers are given to warps in units of 256. */
    uint64_t registers = (units + 31) / 32 * (((uint64_t)kernel->registers * 32 + 255) / 256 * 256);
    if (registers > 65536) return fault(OUT_OF_RESOURCES, "%s: %d registers for %lu units", kernel->name, kernel->registers, units);
    for (int i = 0; i < kernel->parameters && i < 64; i++) {
        address at = kernel->pointer[i] ? *(address *)arguments[i] : 0;
        if (at && !range_of(at)) return fault(ILLEGAL_ADDRESS, "%s: parameter %d is %lx, which is not allocated", kernel->name, i, at);
        if (at % 16) return fault(ILLEGAL_ADDRESS, "%s: parameter %d is %lx, which is not aligned", kernel->name, i, at);
    }
    launches++;
    ceilings += strstr(kernel->name, "hroughput") || strstr(kernel->name, "aunch_overhead") || strstr(kernel->name, "aunchOverhead");
    say("L %d %u %u %u %u %u %u %u", kernel->id, grid[0], grid[1], grid[2], block[0], block[1], block[2], shared);
    return OK;
}
int cuLaunchKernel(struct kernel *kernel, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void *stream, void **arguments, void **extra) {
    (void)stream; (void)extra;
    LOCKED(launch(kernel, (unsigned[]){gx, gy, gz}, (unsigned[]){bx, by, bz}, shared, arguments));
}

/* ---- streams and events: all is over as soon as it is asked for ---- */
struct event { uint64_t launches, ceilings; };
static int waited(const char *what) { say("W %s", what); fflush(trace_file()); return OK; }
int cuStreamCreate(void **out, unsigned flags) { (void)flags; *out = malloc(1); return OK; }
int cuStreamCreateWithPriority(void **out, unsigned flags, int priority) { (void)priority; return cuStreamCreate(out, flags); }
int cuStreamDestroy_v2(void *stream) { free(stream); return OK; }
int cuStreamSynchronize(void *stream) { (void)stream; LOCKED(waited("stream")); }
int cuStreamWaitEvent(void *stream, void *event, unsigned flags) { (void)stream; (void)event; (void)flags; return OK; }
int cuEventCreate(struct event **out, unsigned flags) { (void)flags; *out = calloc(1, sizeof **out); return OK; }
int cuEventDestroy_v2(struct event *event) { free(event); return OK; }
int cuEventRecord(struct event *event, void *stream) { (void)stream; pthread_mutex_lock(&lock); event->launches = launches; event->ceilings = ceilings; pthread_mutex_unlock(&lock); return OK; }
int cuEventSynchronize(struct event *event) { (void)event; LOCKED(waited("event")); }
int cuEventQuery(struct event *event) { (void)event; return OK; }
/* What is measured takes a second, each time a little less, and a millisecond more for each launch:
 * autotuning tries every candidate, and keeps one with the fewest launches. */
int cuEventElapsedTime_v2(float *milliseconds, struct event *start, struct event *end) {
    static uint64_t asked;
    const char *tuning = getenv("CUDA_DRY_RUN_TUNING");
    if (tuning && !strcmp(tuning, "first")) { *milliseconds = end->ceilings > start->ceilings ? 1000.0f : 1e-4f; return OK; }
    pthread_mutex_lock(&lock);
    *milliseconds = (float)(1000.0 / (1.0 + 1e-7 * (double)asked++) + (double)(end->launches - start->launches));
    pthread_mutex_unlock(&lock);
    return OK;
}
int cuEventElapsedTime(float *milliseconds, struct event *start, struct event *end) { return cuEventElapsedTime_v2(milliseconds, start, end); }

/* ---- the device and its context ---- */
int cuInit(unsigned flags) { (void)flags; return OK; }
int cuDriverGetVersion(int *version) { *version = 13000; return OK; }
int cuDeviceGetCount(int *count) { *count = 1; return OK; }
int cuDeviceGet(int *device, int index) { *device = index; return index == 0 ? OK : 101; }
int cuDeviceGetName(char *out, int size, int device) { (void)device; snprintf(out, (size_t)size, "%s", gpu()->name); return OK; }
int cuDeviceGetUuid_v2(char *out, int device) { (void)device; memset(out, 7, 16); return OK; }
int cuDeviceGetUuid(char *out, int device) { return cuDeviceGetUuid_v2(out, device); }
int cuDeviceGetPCIBusId(char *out, int size, int device) { (void)device; snprintf(out, (size_t)size, "0000:01:00.0"); return OK; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { (void)device; *bytes = gpu()->memory; return OK; }
int cuDeviceGetAttribute(int *value, int which, int device) {
    (void)device;
    switch (which) {
    case 1: *value = 1024; break;                       /* threads of a block */
    case 2: case 3: *value = 1024; break;               /* its sides */
    case 4: *value = 64; break;
    case 5: *value = 2147483647; break;                 /* sides of a grid */
    case 6: case 7: *value = 65535; break;
    case 8: *value = 49152; break;                      /* shared memory of a block */
    case 10: *value = 32; break;                        /* units of a warp */
    case 12: *value = 65536; break;                     /* registers of a block */
    case 16: *value = gpu()->processors; break;
    case 75: *value = gpu()->major; break;
    case 76: *value = gpu()->minor; break;
    case 97: *value = gpu()->shared; break;            /* shared memory that can be asked for */
    case 115: *value = 1; break;                        /* memory pools */
    default: *value = 0; fprintf(stderr, "libcuda stand-in: attribute %d was asked for and is 0\n", which);
    }
    return OK;
}
static void *current = &lock;
int cuDevicePrimaryCtxRetain(void **context, int device) { (void)device; *context = current; return OK; }
int cuDevicePrimaryCtxRelease_v2(int device) { (void)device; return OK; }
int cuCtxSetCurrent(void *context) { (void)context; return OK; }
int cuCtxGetCurrent(void **context) { *context = current; return OK; }
int cuCtxSynchronize(void) { LOCKED(waited("context")); }
int cuCtxGetStreamPriorityRange(int *least, int *greatest) { *least = 0; *greatest = -5; return OK; }
int cuGetErrorName(int status, const char **out) {
    switch (status) {
    case INVALID_VALUE: *out = "CUDA_ERROR_INVALID_VALUE"; break;
    case OUT_OF_MEMORY: *out = "CUDA_ERROR_OUT_OF_MEMORY"; break;
    case INVALID_PTX: *out = "CUDA_ERROR_INVALID_PTX"; break;
    case NOT_FOUND: *out = "CUDA_ERROR_NOT_FOUND"; break;
    case ILLEGAL_ADDRESS: *out = "CUDA_ERROR_ILLEGAL_ADDRESS"; break;
    case OUT_OF_RESOURCES: *out = "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES"; break;
    default: *out = "CUDA_ERROR_UNKNOWN";
    }
    return OK;
}
int cuGetErrorString(int status, const char **out) { return cuGetErrorName(status, out); }
