// The system call filter allows what programs need and refuses the rest, executed instruction by instruction as the
// kernel does, for both processors.
import { expect, it } from 'vitest';
import { type FilterKind, toSeccompFilter } from '../../../shared/sandbox/seccomp.ts';

const AUDIT = { x64: 0xc000_003e, arm64: 0xc000_00b7 } as const;
type Arch = keyof typeof AUDIT;

const ALLOW = 0x7fff_0000;
const KILL = 0x8000_0000;
const errno = (number: number): number => 0x0005_0000 | number;
const EPERM = errno(1);
const ENOSYS = errno(38);

/** What the kernel does with a call. */
function decide(
  kind: FilterKind,
  arch: Arch,
  number: number,
  args: readonly number[] = [],
  audit: number = AUDIT[arch],
) {
  const program = toSeccompFilter(kind, arch) ?? Buffer.alloc(0);
  const data = Buffer.alloc(64);
  data.writeUInt32LE(number >>> 0, 0);
  data.writeUInt32LE(audit, 4);
  for (const [index, value] of args.entries()) data.writeBigUInt64LE(BigInt(value), 16 + 8 * index);
  let loaded = 0;
  for (let at = 0; at * 8 < program.length; at++) {
    const code = program.readUInt16LE(at * 8);
    const operand = program.readUInt32LE(at * 8 + 4);
    const isTrue = code === 0x15 ? loaded === operand : code === 0x35 ? loaded >= operand : (loaded & operand) !== 0;
    if (code === 0x20) loaded = data.readUInt32LE(operand);
    else if (code === 0x06) return operand;
    else at += program.readUInt8(at * 8 + (isTrue ? 2 : 3));
  }
  return undefined;
}

/** Numbers of <asm/unistd.h>, not taken from the filter. */
const CALLS: Readonly<Record<string, Readonly<Record<Arch, number>>>> = {
  keyctl: { x64: 250, arm64: 219 },
  add_key: { x64: 248, arm64: 217 },
  request_key: { x64: 249, arm64: 218 },
  ptrace: { x64: 101, arm64: 117 },
  process_vm_readv: { x64: 310, arm64: 270 },
  process_vm_writev: { x64: 311, arm64: 271 },
  setns: { x64: 308, arm64: 268 },
  fsopen: { x64: 430, arm64: 430 },
  fsmount: { x64: 432, arm64: 432 },
  move_mount: { x64: 429, arm64: 429 },
  open_tree: { x64: 428, arm64: 428 },
  mount_setattr: { x64: 442, arm64: 442 },
  bpf: { x64: 321, arm64: 280 },
  perf_event_open: { x64: 298, arm64: 241 },
  userfaultfd: { x64: 323, arm64: 282 },
  kexec_load: { x64: 246, arm64: 104 },
  init_module: { x64: 175, arm64: 105 },
  io_uring_setup: { x64: 425, arm64: 425 },
};
const MOUNTS: typeof CALLS = {
  mount: { x64: 165, arm64: 40 },
  umount2: { x64: 166, arm64: 39 },
  pivot_root: { x64: 155, arm64: 41 },
};
const ARCHES = ['x64', 'arm64'] as const;
const NEW_USER = 0x1000_0000;
/** Flags of pthread_create(3) and fork(3). */
const THREAD = 0x003d_0f00;
const FORK = 0x0120_0011;

it.each(ARCHES)('the filter refuses calls that reach across sandboxes or into the kernel, on %s', (arch) => {
  for (const kind of ['command', 'nested'] as const) {
    for (const [name, numbers] of Object.entries(CALLS))
      expect({ name, is: decide(kind, arch, numbers[arch]) }).toEqual({ name, is: EPERM });
  }
  for (const [name, numbers] of Object.entries(MOUNTS)) {
    expect({ name, is: decide('command', arch, numbers[arch]) }).toEqual({ name, is: EPERM });
    expect({ name, is: decide('nested', arch, numbers[arch]) }).toEqual({ name, is: ALLOW });
  }
});

it.each(ARCHES)('the filter allows threads and processes but no namespaces, on %s', (arch) => {
  const [clone, unshare] = arch === 'x64' ? [56, 272] : [220, 97];
  for (const flags of [THREAD, FORK]) expect(decide('command', arch, clone, [flags])).toBe(ALLOW);
  for (const flag of [NEW_USER, 0x2_0000, 0x200_0000, 0x400_0000, 0x800_0000, 0x2000_0000, 0x4000_0000]) {
    expect(decide('command', arch, clone, [flag | 17])).toBe(EPERM);
    expect(decide('command', arch, unshare, [flag])).toBe(EPERM);
    expect(decide('nested', arch, clone, [flag | 17])).toBe(ALLOW);
    expect(decide('nested', arch, unshare, [flag])).toBe(ALLOW);
  }
  // CLONE_NEWTIME, and CLONE_FILES, which is no namespace.
  expect(decide('command', arch, unshare, [0x80])).toBe(EPERM);
  expect(decide('command', arch, unshare, [0x400])).toBe(ALLOW);
  // The filter cannot read the flags of clone3: libc falls back to clone.
  for (const kind of ['command', 'nested'] as const) expect(decide(kind, arch, 435)).toBe(ENOSYS);
});

it.each(ARCHES)('the filter allows sockets of the network namespace, and no others, on %s', (arch) => {
  const socket = arch === 'x64' ? 41 : 198;
  for (const family of [1, 2, 10, 16]) expect(decide('command', arch, socket, [family, 1, 0])).toBe(ALLOW);
  // AF_PACKET, AF_ALG, AF_VSOCK.
  for (const family of [17, 38, 40]) expect(decide('command', arch, socket, [family, 1, 0])).toBe(errno(97));
});

it.each(ARCHES)('the filter allows the use of terminals but no injected input, on %s', (arch) => {
  const ioctl = arch === 'x64' ? 16 : 29;
  // TIOCGWINSZ; TIOCSTI and TIOCLINUX, also with bits that the kernel ignores.
  expect(decide('command', arch, ioctl, [0, 0x5413, 0])).toBe(ALLOW);
  expect(decide('command', arch, ioctl, [0, 0x5412, 0])).toBe(EPERM);
  expect(decide('command', arch, ioctl, [0, 0x1_0000_5412, 0])).toBe(EPERM);
  expect(decide('command', arch, ioctl, [0, 0x541c, 0])).toBe(EPERM);
});

it.each(ARCHES)('the filter refuses to take space of the disk that is not written, on %s', (arch) => {
  const [fallocate, ioctl] = arch === 'x64' ? [285, 16] : [47, 29];
  for (const kind of ['command', 'nested'] as const) {
    expect(decide(kind, arch, fallocate, [3, 0, 0, 1])).toBe(errno(95));
    // FS_IOC_RESVSP, FS_IOC_RESVSP64, FS_IOC_ZERO_RANGE.
    for (const request of [0x4030_5828, 0x4030_582a, 0x4030_5839])
      expect(decide(kind, arch, ioctl, [3, request, 0])).toBe(errno(95));
  }
});

it('the filter kills a process that calls as another architecture, and refuses x32', () => {
  const I386 = 0x4000_0003;
  expect(decide('command', 'x64', 1, [], I386)).toBe(KILL);
  expect(decide('command', 'arm64', 1, [], 0x4000_0028)).toBe(KILL);
  expect(decide('command', 'x64', 0x4000_0000 + 250)).toBe(ENOSYS);
});

it('the filter allows ordinary calls, and does not exist for other processors', () => {
  // read, write, openat, execve, prctl, seccomp on each.
  for (const number of [0, 1, 257, 59, 157, 317]) expect(decide('command', 'x64', number)).toBe(ALLOW);
  for (const number of [63, 64, 56, 221, 167, 277]) expect(decide('command', 'arm64', number)).toBe(ALLOW);
  expect(toSeccompFilter('command', 'riscv64')).toBeUndefined();
});
