// Run by a user other than the one of the tests: prints what the script prints in a command, in a server with a path of
// the machine, and in a terminal.
import { text } from 'node:stream/consumers';
import { createBubblewrapSandbox } from '../../../shared/sandbox/bubblewrap.ts';
import type { SandboxSpec } from '../../../shared/sandbox/sandbox.ts';
import { openPty } from '../../../shared/terminals/pty.ts';

const [directory = '', script = ''] = process.argv.slice(2);
const sandbox = createBubblewrapSandbox({ directory, path: process.env.PATH ?? '' });
const spec: SandboxSpec = { keyId: 'a', argv: ['/bin/sh', '-c', script] };

const options = { signal: new AbortController().signal, timeoutMs: 30_000, outputBytesMax: 1 << 20 };
const { stdout } = await sandbox.run(spec, options);

const child = await sandbox.spawn({ ...spec, readOnly: [{ from: import.meta.dirname, to: '/opt/tests' }] });
child.stdin.end();
child.stderr.resume();
const [served] = await Promise.all([text(child.stdout), child.exited]);

const pty = await openPty({ cols: 200, rows: 24 }, (tty) => sandbox.attach(spec, tty));
let typed = '';
pty.listen((more) => {
  typed += more;
});
await pty.exited;
await sandbox.close();
process.stdout.write(JSON.stringify([stdout.toString(), served, typed.replaceAll('\r', '')]));
