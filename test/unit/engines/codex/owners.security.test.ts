// Concurrent Codex turns of two owners in one sandbox service cannot access each other's files and processes: neither
// the model's commands, nor Codex itself if its own sandbox fails.
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { EXIT_PORT } from '../../../../shared/codex-host/app-server/exit.ts';
import { CODEX_HOME } from '../../../../shared/codex-host/codex-host.ts';
import type { Launcher, LaunchSpec } from '../../../../shared/codex-host/launcher.ts';
import { EXPECTED, PROBE } from '../../../support/fixtures/isolation/isolation-probe.ts';
import {
  byPrompt,
  type Conversation,
  descendants,
  type Fixture,
  setUpFixture,
  startConversation,
} from '../../../support/fixtures/sandbox/codex.ts';
import { describeWith } from '../../../support/requirements.ts';

/**
 * Files, processes and ports that are in sight. A word with a bracket is not found in the text of the script itself.
 */
const LOOK = `
  echo "files=$(cat ~/* /tmp/* ${CODEX_HOME}/own 2>/dev/null | sort -u | tr '\\n' ' ')"
  echo "marks=$(cat /proc/[0-9]*/cmdline | tr '\\0' '\\n' | grep -o 'mark-of-[k]ey-.' | sort -u | tr '\\n' ' ')"
  echo "servers=$(cat /proc/[0-9]*/cmdline | tr '\\0' '\\n' | grep -c '^app-[s]erver$')"
  echo "networks=$(grep -c : /proc/net/dev) $(tail -n +2 /proc/net/tcp | wc -l)"`;

/** The port of the exit: of its own network namespace, or closed. */
const CONNECT = `(: > /dev/tcp/127.0.0.1/${EXIT_PORT}) 2>/dev/null && echo exit=open || echo exit=closed`;

describeWith('codex', 'turns of two owners in one sandbox service', () => {
  let fixture: Fixture;
  let engine: ReturnType<Fixture['machine']>;
  const specs = new Map<string, LaunchSpec>();
  const conversations = new Map<string, Conversation>();
  const stop = new AbortController();
  const held: Promise<unknown>[] = [];
  const turnOf = (keyId: string): Conversation => {
    const conversation = conversations.get(keyId) ?? startConversation(keyId);
    conversations.set(keyId, conversation);
    return conversation;
  };
  const running = (mark: string): number[] => descendants((argv) => argv.includes(mark));

  beforeAll(async () => {
    fixture = await setUpFixture('in the sandbox service');
    const { promise: gate } = Promise.withResolvers<void>();
    // The turn continues although its command runs longer than Codex waits.
    fixture.api.behave((request) =>
      request.toolOutput !== undefined && request.prompt.includes('sleep 1000')
        ? { text: '', gate }
        : byPrompt(request),
    );
    const launcher: Launcher = {
      spawn(spec, options) {
        specs.set(spec.keyId, spec);
        return fixture.sandbox.spawn({ ...spec, argv: [...spec.argv] }, options);
      },
    };
    engine = fixture.machine({ launcher });
    for (const keyId of ['key-a', 'key-b']) {
      await turnOf(keyId).prompt(engine, `run echo file-of-${keyId} | tee ~/own > /tmp/own`);
      // Runs while the others look.
      const mark = `mark-of-${keyId}`;
      held.push(
        startConversation(keyId)
          .prompt(engine, `run sh -c 'sleep 1000; :' ${mark}`, {}, stop.signal)
          .catch(() => undefined),
      );
      await vi.waitUntil(() => running(mark).length > 0, { timeout: 30_000 });
    }
  });
  afterAll(async () => {
    stop.abort();
    await Promise.all(held);
    await fixture.close();
  });

  it.each(['key-a', 'key-b'])(
    'commands of the model of one owner see nothing of the other owner: %s',
    async (keyId) => {
      const { outcome } = await turnOf(keyId).prompt(engine, `run ${PROBE}\n${LOOK}\nbash -c '${CONNECT}'`);
      const lines = outcome.content.split('\n');
      for (const line of EXPECTED) expect(lines).toContainEqual(line);
      expect(lines).toEqual(
        expect.arrayContaining([`files=file-of-${keyId} `, 'marks=', 'servers=0', 'networks=1 0', 'exit=closed']),
      );
      expect(running('mark-of-key-a').length * running('mark-of-key-b').length).toBeGreaterThan(0);
    },
  );

  it.each(['key-a', 'key-b'])(
    'a program in the place of an app-server sees nothing of the other owner: %s',
    async (keyId) => {
      const spec = specs.get(keyId);
      if (spec === undefined) throw new Error('no app-server was started');
      const script = `read -r go\n${PROBE}\n${LOOK}\n${CONNECT}\nls ${CODEX_HOME} | grep -c config.toml`;
      const env = { ...spec.env, PATH: '/usr/bin:/bin' };
      const child = await fixture.sandbox.spawn({ ...spec, env, argv: ['/bin/bash', '-c', script] });
      const listener = await child.listener;
      const connected = new Promise((resolve) => listener?.once('connection', resolve));
      child.stdin.end('go\n');
      const [output] = await Promise.all([text(child.stdout), text(child.stderr), child.exited, connected]);
      listener?.close();
      const lines = output.split('\n');
      expect(lines).toEqual(
        expect.arrayContaining([
          'descriptors=0 1 2 3 ',
          // It makes namespaces and mounts for its commands, in its own user namespace.
          expect.stringMatching(
            /^calls=keyctl=1 add_key=1 request_key=1 unshare=\S+ clone3=38 ptrace=1 mount=\S+ fsopen=/,
          ),
          expect.stringMatching(/^keys=([^\n]*_ses: empty)?$/),
          'host=0',
          `files=file-of-${keyId} `,
          'marks=',
          'servers=0',
          'exit=open',
        ]),
      );
    },
  );
});
