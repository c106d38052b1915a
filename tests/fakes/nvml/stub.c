/* A libnvidia-ml.so.1 without a GPU, for the real nvidia-ml-py to load. ABI after the public NVML reference.

   NVML_STUB chooses the host: h100x2, gb10, gb10zero (answers zero bytes, not NotSupported), mig, container (one MIG device
   of a GPU whose memory is not ours to read), islands (four GPUs, NVLink in pairs), vgpu, busy, tenants (processes, one
   without a size), silent (processes not told), exclusive, noperm, lost, nodriver, mismatch, empty.
   Built with -DWITHOUT_MEMORY_V2 it lacks nvmlDeviceGetMemoryInfo_v2, as drivers before 510 do. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int Return;
typedef void *Device;
enum {
    SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9, LIB_RM_VERSION_MISMATCH = 18, GPU_IS_LOST = 15,
    ARGUMENT_VERSION_MISMATCH = 25
};
#define MIB (1024ULL * 1024ULL)

static int initialised = 0;
static char gpus[8];      /* the address of element i is the handle of GPU i */
static char mig_devices[8]; /* likewise for the MIG devices of GPU 0 */

static int host_is(const char *name) {
    const char *chosen = getenv("NVML_STUB");
    return !strcmp(chosen ? chosen : "h100x2", name);
}
static int has_mig(void) { return host_is("mig") || host_is("container"); }
static int is_unified(void) { return host_is("gb10") || host_is("gb10zero"); }
static unsigned gpu_count(void) {
    return host_is("empty") ? 0u : (is_unified() || has_mig() || host_is("vgpu")) ? 1u : host_is("islands") ? 4u : 2u;
}
static int is_mig_device(Device device) {
    return (char *)device >= mig_devices && (char *)device < mig_devices + sizeof mig_devices;
}
static unsigned index_of(Device device) {
    return (unsigned)((char *)device - (is_mig_device(device) ? mig_devices : gpus));
}
static Return copy_text(char *buffer, unsigned length, const char *text) {
    if (strlen(text) + 1 > length) return INSUFFICIENT_SIZE;
    strcpy(buffer, text);
    return SUCCESS;
}

Return nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    if (host_is("nodriver")) return DRIVER_NOT_LOADED;
    if (host_is("mismatch")) return LIB_RM_VERSION_MISMATCH;
    initialised = 1;
    return SUCCESS;
}
Return nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
Return nvmlShutdown(void) {
    if (!initialised) return UNINITIALIZED;
    initialised = 0;
    return SUCCESS;
}
const char *nvmlErrorString(Return code) {
    switch (code) {
    case SUCCESS: return "Success";
    case NOT_SUPPORTED: return "Not Supported";
    case NO_PERMISSION: return "Insufficient Permissions";
    case DRIVER_NOT_LOADED: return "Driver Not Loaded";
    default: return "Unknown Error";
    }
}
Return nvmlSystemGetDriverVersion(char *buffer, unsigned length) {
    return copy_text(buffer, length, is_unified() ? "580.142" : "580.126.09");
}
Return nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = 13010; return SUCCESS; }
Return nvmlDeviceGetCount_v2(unsigned *count) { *count = gpu_count(); return SUCCESS; }
Return nvmlDeviceGetHandleByIndex_v2(unsigned index, Device *device) {
    if (index >= gpu_count()) return INVALID_ARGUMENT;
    *device = &gpus[index];
    return SUCCESS;
}
Return nvmlDeviceGetName(Device device, char *buffer, unsigned length) {
    if (is_mig_device(device)) return copy_text(buffer, length, "NVIDIA H100 80GB HBM3 MIG 3g.40gb");
    if (host_is("lost")) return GPU_IS_LOST;
    if (host_is("vgpu")) return copy_text(buffer, length, "NVIDIA A10-12Q");
    return copy_text(buffer, length, is_unified() ? "NVIDIA GB10" : "NVIDIA H100 80GB HBM3");
}
Return nvmlDeviceGetUUID(Device device, char *buffer, unsigned length) {
    char text[64];
    snprintf(text, sizeof text, "%s-00000000-0000-0000-0000-00000000000%u", is_mig_device(device) ? "MIG" : "GPU",
             index_of(device));
    return copy_text(buffer, length, text);
}

typedef struct { unsigned long long total, free, used; } MemoryV1;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } MemoryV2;
Return nvmlDeviceGetMemoryInfo(Device device, MemoryV1 *memory) {
    (void)device;
    if (host_is("gb10")) return NOT_SUPPORTED;
    memory->total = 81559 * MIB;
    memory->used = (625 + 4) * MIB; /* version 1 counts the reserve as used */
    memory->free = memory->total - memory->used;
    return SUCCESS;
}
#ifndef WITHOUT_MEMORY_V2
Return nvmlDeviceGetMemoryInfo_v2(Device device, MemoryV2 *memory) {
    if (host_is("gb10")) return NOT_SUPPORTED;
    if (memory->version != (sizeof(MemoryV2) | (2u << 24))) return ARGUMENT_VERSION_MISMATCH;
    if ((has_mig() && !is_mig_device(device)) || host_is("noperm")) return NO_PERMISSION;
    if (host_is("gb10zero")) {
        memory->total = memory->reserved = memory->free = memory->used = 0;
        return SUCCESS;
    }
    memory->total = (is_mig_device(device) ? 40448 : host_is("vgpu") ? 12288 : 81559) * MIB;
    memory->reserved = (is_mig_device(device) ? 0 : 625) * MIB;
    memory->used = ((host_is("busy") || host_is("tenants") || host_is("silent")) && index_of(device) == 1 ? 20480 : 4) * MIB;
    memory->free = memory->total - memory->reserved - memory->used;
    return SUCCESS;
}
#endif
Return nvmlDeviceGetCudaComputeCapability(Device device, int *major, int *minor) {
    if (is_mig_device(device)) return NOT_SUPPORTED;
    *major = is_unified() ? 12 : 9;
    *minor = is_unified() ? 1 : 0;
    return SUCCESS;
}
Return nvmlDeviceGetMigMode(Device device, unsigned *current, unsigned *pending) {
    (void)device;
    if (is_unified() || host_is("vgpu")) return NOT_SUPPORTED;
    *current = *pending = has_mig();
    return SUCCESS;
}
Return nvmlDeviceGetMaxMigDeviceCount(Device device, unsigned *count) { (void)device; *count = 7; return SUCCESS; }
Return nvmlDeviceGetMigDeviceHandleByIndex(Device device, unsigned index, Device *mig_device) {
    (void)device;
    if (index != 0 && (index != 2 || host_is("container"))) return NOT_FOUND; /* a gap: a device in the middle was destroyed */
    *mig_device = &mig_devices[index];
    return SUCCESS;
}
Return nvmlDeviceGetP2PStatus(Device one, Device other, int capability, int *status) {
    (void)capability;
    if (host_is("vgpu")) return NOT_SUPPORTED;
    *status = host_is("islands") && index_of(one) / 2 != index_of(other) / 2 ? 1 : 0; /* 1: chipset not supported */
    return SUCCESS;
}
Return nvmlDeviceGetVirtualizationMode(Device device, unsigned long long *mode) {
    (void)device;
    *mode = host_is("vgpu") ? 2 : 0;
    return SUCCESS;
}
Return nvmlDeviceGetEccMode(Device device, unsigned *current, unsigned *pending) {
    (void)device;
    if (is_unified() || host_is("vgpu")) return NOT_SUPPORTED;
    *current = *pending = 1;
    return SUCCESS;
}
Return nvmlDeviceGetComputeMode(Device device, int *mode) {
    (void)device;
    *mode = host_is("exclusive") ? 3 : 0;
    return SUCCESS;
}

typedef struct { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; } Process;
Return nvmlDeviceGetComputeRunningProcesses_v3(Device device, unsigned *count, Process *processes) {
    unsigned present = (host_is("tenants") && index_of(device) == 1) ? 2u : is_unified() ? 1u : 0u;
    if (host_is("silent")) return NO_PERMISSION;
    if (*count < present) {
        *count = present;
        return INSUFFICIENT_SIZE;
    }
    *count = present;
    for (unsigned index = 0; index < present; index++) {
        processes[index].pid = index ? 4000000000u : 1u; /* process 1 has a name everywhere, the other nowhere */
        processes[index].used = index ? ~0ULL : 19456 * MIB; /* all ones: not available */
        processes[index].gpu_instance = processes[index].compute_instance = ~0u;
    }
    return SUCCESS;
}

/* What the exporter reads. NVML_STUB=hot: the second GPU is too hot, slows down and has memory errors. */
static int is_hot(Device device) { return host_is("hot") && index_of(device) == 1; }
Return nvmlDeviceGetTemperature(Device device, int sensor, unsigned *celsius) {
    if (sensor != 0) return INVALID_ARGUMENT;
    if (host_is("vgpu")) return NOT_SUPPORTED;
    *celsius = is_hot(device) ? 91 : 41;
    return SUCCESS;
}
Return nvmlDeviceGetTemperatureThreshold(Device device, int threshold, unsigned *celsius) {
    (void)device;
    if (host_is("vgpu") || is_unified()) return NOT_SUPPORTED;
    *celsius = threshold == 1 ? 87 : 92;
    return SUCCESS;
}
typedef struct { unsigned gpu, memory; } Utilization;
Return nvmlDeviceGetUtilizationRates(Device device, Utilization *rates) {
    if (has_mig()) return NOT_SUPPORTED;
    rates->gpu = is_hot(device) ? 100 : 25;
    rates->memory = 10;
    return SUCCESS;
}
Return nvmlDeviceGetPowerUsage(Device device, unsigned *milliwatts) { (void)device; *milliwatts = 71500; return SUCCESS; }
Return nvmlDeviceGetEnforcedPowerLimit(Device device, unsigned *milliwatts) {
    (void)device;
    if (is_unified()) return NOT_SUPPORTED;
    *milliwatts = 700000;
    return SUCCESS;
}
Return nvmlDeviceGetClockInfo(Device device, int type, unsigned *megahertz) {
    (void)device;
    *megahertz = type == 1 ? 1980 : 2619;
    return SUCCESS;
}
Return nvmlDeviceGetCurrentClocksThrottleReasons(Device device, unsigned long long *reasons) {
    *reasons = is_hot(device) ? 0x40 | 0x08 : 0x01; /* hardware thermal slowdown; idle */
    return SUCCESS;
}
Return nvmlDeviceGetTotalEccErrors(Device device, int kind, int counter, unsigned long long *count) {
    if (is_unified() || host_is("vgpu")) return NOT_SUPPORTED;
    if (counter != 1) return INVALID_ARGUMENT;
    *count = is_hot(device) ? (kind == 1 ? 3 : 17) : 0;
    return SUCCESS;
}
Return nvmlDeviceGetRemappedRows(Device device, unsigned *corrected, unsigned *uncorrected, unsigned *pending, unsigned *failed) {
    if (is_unified() || host_is("vgpu")) return NOT_SUPPORTED;
    *corrected = *failed = 0;
    *uncorrected = *pending = is_hot(device);
    return SUCCESS;
}
