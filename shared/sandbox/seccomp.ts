// The system call filter of every sandbox, as a BPF program for `bwrap --seccomp` (seccomp(2)). It is a deny list:
// system calls that commands do not need, and system calls that reach state outside the namespaces (keyrings, memory of
// other processes, the kernel itself).

/**
 * `command`: the filter of commands. `nested`: also allows the calls of a program that creates sandboxes with
 * bubblewrap itself.
 */
export type FilterKind = 'command' | 'nested';
export const FILTER_KINDS: readonly FilterKind[] = ['command', 'nested'];

interface Architecture {
  /** AUDIT_ARCH_*: the architecture that the kernel reports for native calls. */
  readonly audit: number;
  /** Column of the tables below. */
  readonly column: 0 | 1;
}

const ARCHITECTURES: Readonly<Record<string, Architecture>> = {
  x64: { audit: 0xc000_003e, column: 0 },
  arm64: { audit: 0xc000_00b7, column: 1 },
};

/** System call numbers on x64 and arm64; undefined: the call does not exist there. */
type Numbers = readonly [x64: number | undefined, arm64: number | undefined];

/** Refused in both filters. */
const REFUSED: Readonly<Record<string, Numbers>> = {
  // Keyrings: the session keyring is inherited from the process that started the gateway, and the user keyring is
  // shared by all processes of the uid.
  add_key: [248, 217],
  request_key: [249, 218],
  keyctl: [250, 219],
  // Other processes.
  ptrace: [101, 117],
  process_vm_readv: [310, 270],
  process_vm_writev: [311, 271],
  process_madvise: [440, 440],
  kcmp: [312, 272],
  pidfd_getfd: [438, 438],
  // Mounts by file descriptor; bubblewrap uses the older calls.
  open_tree: [428, 428],
  move_mount: [429, 429],
  fsopen: [430, 430],
  fsconfig: [431, 431],
  fsmount: [432, 432],
  fspick: [433, 433],
  mount_setattr: [442, 442],
  open_tree_attr: [467, 467],
  chroot: [161, 51],
  setns: [308, 268],
  name_to_handle_at: [303, 264],
  open_by_handle_at: [304, 265],
  // Parts of the kernel with many past vulnerabilities, which commands do not need.
  bpf: [321, 280],
  perf_event_open: [298, 241],
  userfaultfd: [323, 282],
  io_uring_setup: [425, 425],
  io_uring_enter: [426, 426],
  io_uring_register: [427, 427],
  fanotify_init: [300, 262],
  lookup_dcookie: [212, 18],
  modify_ldt: [154, undefined],
  // The machine as a whole.
  init_module: [175, 105],
  finit_module: [313, 273],
  delete_module: [176, 106],
  kexec_load: [246, 104],
  kexec_file_load: [320, 294],
  reboot: [169, 142],
  swapon: [167, 224],
  swapoff: [168, 225],
  acct: [163, 89],
  quotactl: [179, 60],
  quotactl_fd: [443, 443],
  syslog: [103, 116],
  settimeofday: [164, 170],
  clock_settime: [227, 112],
  clock_adjtime: [305, 266],
  adjtimex: [159, 171],
  vhangup: [153, 58],
  iopl: [172, undefined],
  ioperm: [173, undefined],
  uselib: [134, undefined],
  sysfs: [139, undefined],
};

/** Refused unless `nested`. */
const REFUSED_TO_COMMANDS: Readonly<Record<string, Numbers>> = {
  mount: [165, 40],
  umount2: [166, 39],
  pivot_root: [155, 41],
};

const UNSHARE: Numbers = [272, 97];
const CLONE: Numbers = [56, 220];
/** The flags of clone3 are behind a pointer, which a filter cannot read. With ENOSYS, libc falls back to clone(2). */
const CLONE3: Numbers = [435, 435];
const SOCKET: Numbers = [41, 198];
const IOCTL: Numbers = [16, 29];
/**
 * fallocate reserves gigabytes of the disk in a millisecond, before any check of the workspace's size. Without it,
 * programs have to write the bytes, as they do on file systems that do not support it.
 */
const FALLOCATE: Numbers = [285, 47];

/** CLONE_NEW*: mount, cgroup, uts, ipc, user, pid, net. */
const NEW_NAMESPACES = 0x7e02_0000;
/** CLONE_NEWTIME; in clone(2) the same bit is part of a signal's number. */
const NEW_TIME = 0x80;
/**
 * The allowed families: AF_UNSPEC, UNIX, INET, INET6, NETLINK. Others, such as AF_VSOCK, are not confined to a network
 * namespace.
 */
const FAMILIES = [0, 1, 2, 10, 16];
/** TIOCSTI and TIOCLINUX: insert input into a terminal as if it had been typed. */
const TERMINAL_INPUT = [0x5412, 0x541c];
/**
 * FS_IOC_RESVSP, FS_IOC_RESVSP64 and FS_IOC_ZERO_RANGE: ioctls that do the same as fallocate(2), on every file system.
 */
const PREALLOCATE = [0x4030_5828, 0x4030_582a, 0x4030_5839];

const EPERM = 1;
const ENOSYS = 38;
const EOPNOTSUPP = 95;
const EAFNOSUPPORT = 97;

/** Offsets in `struct seccomp_data`. For an argument, the offset of its lower 32 bits. */
const NUMBER_AT = 0;
const ARCHITECTURE_AT = 4;
const argumentAt = (index: number): number => 16 + 8 * index;

/** Instructions of classic BPF. */
const LOAD = 0x20;
const JUMP_EQUAL = 0x15;
const JUMP_AT_LEAST = 0x35;
const JUMP_BITS = 0x45;
const RETURN = 0x06;

const ALLOW = 0x7fff_0000;
const KILL_PROCESS = 0x8000_0000;
const fail = (errno: number): number => 0x0005_0000 | errno;

/** Calls of the x32 ABI report the architecture of x64 and have this bit in their number. */
const X32_BIT = 0x4000_0000;

type Instruction = readonly [code: number, operand: number, jumpTrue?: number, jumpFalse?: number];

/** Returns the program in the binary form that the kernel reads; undefined for an unsupported processor. */
export function toSeccompFilter(kind: FilterKind, arch: string = process.arch): Buffer | undefined {
  const architecture = ARCHITECTURES[arch];
  if (architecture === undefined) return undefined;
  const { audit, column } = architecture;
  const refused = kind === 'nested' ? [REFUSED] : [REFUSED, REFUSED_TO_COMMANDS];
  const numbers = refused.flatMap((table) => Object.values(table)).map((each) => each[column]);
  const program: Instruction[] = [
    [LOAD, ARCHITECTURE_AT],
    [JUMP_EQUAL, audit, 1, 0],
    // Calls of another architecture (32-bit programs) have other numbers, which this program cannot check.
    [RETURN, KILL_PROCESS],
    [LOAD, NUMBER_AT],
    ...(arch === 'x64' ? returnIf(JUMP_AT_LEAST, X32_BIT, fail(ENOSYS)) : []),
    ...numbers.flatMap((number) => (number === undefined ? [] : returnIf(JUMP_EQUAL, number, fail(EPERM)))),
    ...returnIf(JUMP_EQUAL, CLONE3[column], fail(ENOSYS)),
    ...returnIf(JUMP_EQUAL, FALLOCATE[column], fail(EOPNOTSUPP)),
    ...withArgument(IOCTL[column], 1, [
      ...TERMINAL_INPUT.flatMap((request) => returnIf(JUMP_EQUAL, request, fail(EPERM))),
      ...PREALLOCATE.flatMap((request) => returnIf(JUMP_EQUAL, request, fail(EOPNOTSUPP))),
      [RETURN, ALLOW],
    ]),
    ...withArgument(SOCKET[column], 0, [
      ...FAMILIES.flatMap((family) => returnIf(JUMP_EQUAL, family, ALLOW)),
      [RETURN, fail(EAFNOSUPPORT)],
    ]),
    ...(kind === 'nested' ? [] : namespaces(column)),
    [RETURN, ALLOW],
  ];
  return assemble(program);
}

function namespaces(column: 0 | 1): Instruction[] {
  return [
    ...withArgument(CLONE[column], 0, [...returnIf(JUMP_BITS, NEW_NAMESPACES, fail(EPERM)), [RETURN, ALLOW]]),
    ...withArgument(UNSHARE[column], 0, [
      ...returnIf(JUMP_BITS, NEW_NAMESPACES | NEW_TIME, fail(EPERM)),
      [RETURN, ALLOW],
    ]),
  ];
}

/** Instructions that return `verdict` if the comparison of the loaded value is true, and continue otherwise. */
function returnIf(jump: number, operand: number | undefined, verdict: number): Instruction[] {
  return operand === undefined
    ? []
    : [
        [jump, operand, 0, 1],
        [RETURN, verdict],
      ];
}

/**
 * Instructions that load an argument of one system call and run `then`. `then` must end with a return, because the
 * number of the call is no longer loaded.
 */
function withArgument(number: number | undefined, index: number, then: readonly Instruction[]): Instruction[] {
  return number === undefined ? [] : [[JUMP_EQUAL, number, 0, then.length + 1], [LOAD, argumentAt(index)], ...then];
}

/** `struct sock_filter`: 16 bits of code, two jumps of 8, an operand of 32; both architectures are little-endian. */
function assemble(program: readonly Instruction[]): Buffer {
  const bytes = Buffer.alloc(program.length * 8);
  program.forEach(([code, operand, jumpTrue = 0, jumpFalse = 0], index) => {
    bytes.writeUInt16LE(code, index * 8);
    bytes.writeUInt8(jumpTrue, index * 8 + 2);
    bytes.writeUInt8(jumpFalse, index * 8 + 3);
    bytes.writeUInt32LE(operand >>> 0, index * 8 + 4);
  });
  return bytes;
}
