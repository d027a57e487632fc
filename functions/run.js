// What the npm scripts start. Plain JavaScript for every Node since 18: a version that cannot run the TypeScript of
// this project ends here, with one line, and not with the stack of a module loader.
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
const PROGRAMS = ['local', 'sandbox', 'cli', 'smoke'];
/** `keys` is not part of the published command line, which contains no Google SDK. */
const MAINS = { keys: 'cli/keys/main.ts', smoke: 'cli/smoke/main.ts' };
const PARENT_CHECK_MS = 250;

if (major < 22 || (major === 22 && minor < 18)) {
  process.stderr.write(
    `Node 22.18 or later is needed, this is ${process.version}: install Node 24, or run npm ci without --omit ` +
      '(and without NODE_ENV=production) and start this with npm, which then uses the Node in node_modules/.bin\n',
  );
  process.exitCode = 1;
} else {
  const [program] = process.argv.splice(2, 1);
  if (!PROGRAMS.includes(program)) throw new Error(`one of ${PROGRAMS.join(', ')} is needed`);
  followParent();
  const name = program === 'cli' && process.argv[2] === 'keys' ? 'keys' : program;
  await import(`./${MAINS[name] ?? `${name}/main.ts`}`);
}

/**
 * npm sends a signal to the shell that it started this program with, and a shell such as dash ends without passing it
 * on. So the end of the parent counts as SIGTERM, once; after a signal of its own the program is ending already.
 */
function followParent() {
  const parent = process.ppid;
  const timer = setInterval(() => {
    if (process.ppid === parent) return;
    clearInterval(timer);
    process.kill(process.pid, 'SIGTERM');
  }, PARENT_CHECK_MS).unref();
  for (const [signal, code] of Object.entries({ SIGTERM: 143, SIGINT: 130 })) {
    process.once(signal, () => {
      clearInterval(timer);
      // The program has not come as far as to listen itself.
      if (process.listenerCount(signal) === 0) process.exit(code);
    });
  }
}
