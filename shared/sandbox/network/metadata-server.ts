// Separates registered MCP servers with `network: true` from the metadata server of a machine in the cloud, which
// returns tokens of the machine's service account to every process of the machine.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { ConfigError } from '../../config/read-variables.ts';
import { OWNERS_UIDS } from '../workspace/uids.ts';

type Servers = ReadonlyMap<string, { readonly network: boolean } | { readonly url: string }>;

const ADDRESSES = ['169.254.169.254', 'fd20:ce::254'] as const;
const ANSWER_MS = 2_000;
const PROGRAM_MS = 10_000;

/**
 * Prints `metadata` if the address answers as a metadata server does (a proxy of the network may answer for any
 * address), else `other` or the code of the error.
 */
const PROBE = `
const [host, ms] = process.argv.slice(1);
const end = (result) => { console.log(result); process.exit(); };
setTimeout(end, Number(ms), 'ETIMEDOUT');
const request = require('node:http').get({ host, headers: { 'Metadata-Flavor': 'Google' } });
request.once('response', ({ headers }) => end(headers['metadata-flavor'] === 'Google' ? 'metadata' : 'other'));
request.once('error', ({ code }) => end(code));`;

/** What a connection fails with where a rule of `block` applies. */
const BLOCKED = ['ENETUNREACH', 'EHOSTUNREACH', 'EACCES'];

const run = promisify(execFile);

/**
 * For the sandbox service. If a server has `network: true` and the metadata server answers, adds routing rules that
 * make it unreachable for the uids of owners, and for no other process of the machine. Throws ConfigError when it is
 * still reachable. Changes nothing on other machines. `path`: the directories in which `ip` is searched, as in PATH.
 */
export async function blockMetadataServer(servers: Servers, path: string): Promise<void> {
  const names = withNetwork(servers);
  const answering = names.length === 0 ? [] : await findAnswering();
  if (answering.length === 0) return;
  const isRoot = process.getuid?.() === 0;
  const reasons = isRoot ? await Promise.all(answering.map((address) => block(address, path))) : ['this is not root'];
  const reason = reasons.find((found) => found !== undefined);
  if (reason === undefined) return;
  throw refusal(names, answering, ` (${reason}): run this service as root, with CAP_NET_ADMIN and iproute2`);
}

/**
 * For a gateway that runs the servers itself and may need the metadata server for its credentials. Throws ConfigError
 * if a server has `network: true` and the metadata server answers.
 */
export async function refuseMetadataServer(servers: Servers): Promise<void> {
  const names = withNetwork(servers);
  const answering = names.length === 0 ? [] : await findAnswering();
  if (answering.length > 0) throw refusal(names, answering, ': use the sandbox service (npm run sandbox, SANDBOX_URL)');
}

function withNetwork(servers: Servers): string[] {
  return [...servers].flatMap(([name, server]) => ('network' in server && server.network ? [name] : []));
}

function refusal(names: readonly string[], answering: readonly string[], rest: string): ConfigError {
  return new ConfigError([
    `MCP_SERVERS: ${names.join(', ')}: "network": true would give access to the metadata server of this machine ` +
      `(${answering.join(', ')}), and so to its service account${rest}, or remove "network"`,
  ]);
}

async function findAnswering(): Promise<string[]> {
  const results = await Promise.all(ADDRESSES.map((address) => probe(address)));
  return ADDRESSES.filter((_, index) => results[index] === 'metadata');
}

/** Returns why a process with the uid of an owner may still reach the address; undefined: it cannot. */
async function block(address: string, path: string): Promise<string | undefined> {
  const [first, last] = OWNERS_UIDS;
  const owners = ['to', address, 'uidrange', `${first}-${last}`];
  const failures = [
    // The same address is the DNS server of Google's networks.
    await addRule([...owners, 'dport', '53', 'lookup', 'main', 'pref', '1'], address, path),
    await addRule([...owners, 'unreachable', 'pref', '2'], address, path),
  ];
  const result = await probe(address, first).catch(() => 'it could not be tested');
  // It is an error too if a rule exists already, so only the test counts.
  return BLOCKED.includes(result) ? undefined : (failures.find((failure) => failure !== undefined) ?? result);
}

async function addRule(rule: readonly string[], address: string, path: string): Promise<string | undefined> {
  const options = { timeout: PROGRAM_MS, killSignal: 'SIGKILL', env: { PATH: `${path}:/usr/sbin:/sbin` } } as const;
  try {
    await run('ip', [address.includes(':') ? '-6' : '-4', 'rule', 'add', ...rule], options);
    return undefined;
  } catch (error) {
    const { code, stderr = '' } = error as { code?: unknown; stderr?: string };
    return code === 'ENOENT' ? 'there is no ip' : `ip: ${stderr.trim().split('\n')[0]}`;
  }
}

/** Runs PROBE as this user, or with `uid`. */
async function probe(address: string, uid?: number): Promise<string> {
  const user = uid === undefined ? {} : { uid, gid: uid };
  const options = { timeout: PROGRAM_MS, killSignal: 'SIGKILL', env: {}, cwd: '/', ...user } as const;
  const { stdout } = await run(process.execPath, ['-e', PROBE, address, String(ANSWER_MS)], options);
  return stdout.trim();
}
