// Finds out whether a connection comes from a process in a sandbox. Sandboxes of registered servers with
// `network: true` share the network namespace of this process, so they can connect to the ports that listen here. The
// kernel lists each socket of the namespace with the user that created it, and each process with the sockets that it
// holds.
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import type { Socket } from 'node:net';
import { networkInterfaces } from 'node:os';
import ipaddr from 'ipaddr.js';
import { isOwnersUid } from '../workspace/uids.ts';

const TABLES = ['/proc/net/tcp', '/proc/net/tcp6'];
/** The kernel skips an entry of the table where another one ends while it is read. */
const READS = 2;

export type Peer = Pick<Socket, 'localAddress' | 'localPort' | 'remoteAddress' | 'remotePort'>;

interface TableEntry {
  readonly uid: number;
  /** '0': no process holds the socket any more. */
  readonly inode: string;
}

/**
 * False for a peer of another machine, and for a process of this machine that is certainly in no sandbox. True where
 * that is not certain: the peer's socket is held by no process that can be seen, or by none at all.
 */
export function mayBeSandboxed(peer: Peer): boolean {
  if (process.platform !== 'linux' || !isOnThisMachine(peer.remoteAddress)) return false;
  const entry = find(peer);
  if (entry === undefined || entry.inode === '0') return true;
  const uid = process.getuid?.();
  const isOfSandbox = uid === 0 ? isOwnersUid(entry.uid) : entry.uid === uid;
  return isOfSandbox && !isHeldOutside(entry.inode);
}

function isOnThisMachine(address: string | undefined): boolean {
  // The peer has closed the connection.
  if (address === undefined) return true;
  const parsed = parse(address);
  if (parsed.range() === 'loopback') return true;
  const text = parsed.toString();
  const own = Object.values(networkInterfaces()).flatMap((all) => all ?? []);
  return own.some((one) => parse(one.address).toString() === text);
}

/** The peer's end of the connection. */
function find({ localAddress, localPort, remoteAddress, remotePort }: Peer): TableEntry | undefined {
  const isPeer = toCheck(remoteAddress, remotePort);
  const isOwn = toCheck(localAddress, localPort);
  for (let read = 0; read < READS; read++) {
    for (const line of TABLES.flatMap(readLines)) {
      const [, local = '', remote = '', , , , , uid, , inode = '0'] = line.trim().split(/\s+/);
      if (isPeer(local) && isOwn(remote)) return { uid: Number(uid), inode };
    }
  }
  return undefined;
}

/** Without the line of headings; empty where the kernel has no such table. */
function readLines(path: string): string[] {
  try {
    return readFileSync(path, 'latin1').trimEnd().split('\n').slice(1);
  } catch {
    return [];
  }
}

/** For `ADDRESS:PORT` of the table, in which each 32-bit word of the address is a number of the machine. */
function toCheck(address = '::', port = 0): (text: string) => boolean {
  const wanted = parse(address).toString();
  return (text) => {
    const [words = '', hexPort = ''] = text.split(':');
    if (Number.parseInt(hexPort, 16) !== port) return false;
    return parse(ipaddr.fromByteArray([...Buffer.from(words, 'hex').swap32()]).toString()).toString() === wanted;
  };
}

/** IPv4 addresses that are written as IPv6 ones are the same here. */
function parse(address: string): ReturnType<typeof ipaddr.process> {
  return ipaddr.process(address.replace(/%.*$/, ''));
}

/**
 * Whether a process of this PID namespace holds the socket: each sandbox has a PID namespace of its own. A process in a
 * sandbox cannot hide behind a socket that it has passed on: then no process outside holds it either.
 */
function isHeldOutside(inode: string): boolean {
  const own = readlinkSync('/proc/self/ns/pid');
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  return pids.some((pid) => {
    try {
      if (readlinkSync(`/proc/${pid}/ns/pid`) !== own) return false;
      return readdirSync(`/proc/${pid}/fd`).some((fd) => isSocket(`/proc/${pid}/fd/${fd}`, inode));
    } catch {
      // It has ended, or is another user's.
      return false;
    }
  });
}

function isSocket(path: string, inode: string): boolean {
  try {
    return readlinkSync(path) === `socket:[${inode}]`;
  } catch {
    return false;
  }
}
