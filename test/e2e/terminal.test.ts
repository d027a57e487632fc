// Terminals work over HTTP and WebSocket: input and output, a reconnect, and a browser that requests a ticket over
// HTTP. No key can read the terminals of another.
import { afterAll, expect, it } from 'vitest';
import { z } from 'zod';
import { type Client, connect, type Message } from '../support/fixtures/gateway/companion.ts';
import { startInProcess } from '../support/fixtures/gateway/in-process.ts';
import { untilStable } from '../support/fixtures/until-stable.ts';
import { describeWith } from '../support/requirements.ts';

const Started = z.object({
  session_id: z.string(),
  cols: z.number(),
  attach: z.object({ url: z.string(), ticket: z.string(), protocols: z.array(z.string()) }),
});
const KEYS = ['alice', 'bob'].map((id) => ({ id, key: `${id}-key`, scopes: ['workspace', 'mcp', 'conversation'] }));

describeWith('bubblewrap', 'terminals over the wire', async () => {
  const gateway = await startInProcess({
    PATH: process.env.PATH,
    GATEWAY_KEYS: JSON.stringify({ keys: KEYS }),
    GATEWAY_LIMITS: '1000000/minute',
  });
  const url = `${gateway.url.replace('http', 'ws')}/ws`;
  const open = (key: string): Promise<Client> => connect(url, { headers: { 'X-API-Key': `${key}-key` } });
  afterAll(() => gateway.close());

  const output = ({ received }: Client, sessionId: string): string =>
    received
      .filter(({ method, params }) => method === 'interactive.output' && params?.session_id === sessionId)
      .map(({ params }) => String(params?.data))
      .join('');

  /** Resolves when the terminal has printed it. */
  const until = (client: Client, sessionId: string, pattern: RegExp) =>
    client.until(() => pattern.test(output(client, sessionId)));

  it('a terminal accepts input, sizes and interrupts, and ends with the exit code of the shell', async () => {
    const client = await open('alice');
    const start = { session_id: 'tty-session-456', shell: '/bin/bash', cols: 80, rows: 24 };
    const { result } = await client.call('interactive.start', start);
    expect(result).toMatchObject({ session_id: 'tty-session-456', cols: 80, rows: 24, resumed: false });
    expect(result).not.toHaveProperty('attach');
    const type = (data: string) => client.call('interactive.input', { session_id: 'tty-session-456', data });

    expect((await type('stty size; echo $TERM\r')).result).toMatchObject({ accepted: true });
    await until(client, 'tty-session-456', /24 80\r\nxterm-256color/);
    await client.call('interactive.resize', { session_id: 'tty-session-456', cols: 132, rows: 43 });
    await type('stty size\r');
    await until(client, 'tty-session-456', /43 132/);
    // Job control: Ctrl-C ends the sleep, not the shell.
    await type(`sh -c 'echo sl""eeping; exec sleep 1000'\r`);
    await until(client, 'tty-session-456', /sleeping/);
    await type('\u0003');
    await until(client, 'tty-session-456', /\^C[\s\S]*[#$] $/);
    await type('echo st""ill here $?\r');
    await until(client, 'tty-session-456', /still here 130/);
    await type('exit 7\r');
    const exit = await client.until(({ method }) => method === 'interactive.exit');
    expect(exit.params).toEqual({ session_id: 'tty-session-456', exit_code: 7 });
    expect((await type('x')).error?.data.reason).toBe('not_found');
    client.socket.close();
  });

  it('interactive.start starts the program of the call in its directory with its variables', async () => {
    const client = await open('alice');
    const params = { session_id: 'named', shell: '/bin/sh', cwd: '/tmp', env: { GREETING: 'hello' } };
    await client.call('interactive.start', params);
    await client.call('interactive.input', { session_id: 'named', data: 'echo "<$0 $PWD $GREETING>"\r' });
    await until(client, 'named', /<\/bin\/sh \/tmp hello>\r\n/);
    await client.call('interactive.close', { session_id: 'named' });
    client.socket.close();
  });

  it('input that is sent before the terminal has started reaches it in order', async () => {
    const client = await open('alice');
    client.send({ jsonrpc: '2.0', id: 1, method: 'interactive.start', params: { session_id: 'early' } });
    for (const data of ['echo a', 'b""c', 'd\r']) {
      client.send({ jsonrpc: '2.0', method: 'interactive.input', params: { session_id: 'early', data } });
    }
    await until(client, 'early', /abcd\r\n/);
    await client.call('interactive.input', { session_id: 'early', data: 'exit\r' });
    await client.until(({ method }) => method === 'interactive.exit');
    // Watched once, from the answer of the start on.
    const seqs = client.received
      .filter(({ method }) => method === 'interactive.output')
      .map(({ params }) => params?.seq);
    expect(seqs).toEqual([...new Set(seqs)].toSorted((a, b) => Number(a) - Number(b)));
    expect(client.received.findIndex(({ id }) => id === 1)).toBeLessThan(
      client.received.findIndex(({ method }) => method === 'interactive.output'),
    );
    client.socket.close();
  });

  it('a client that reconnects receives the missed output once, and another client all of it', async () => {
    const first = await open('alice');
    await first.call('interactive.start', { session_id: 'back' });
    await first.call('interactive.input', { session_id: 'back', data: 'echo o""ne\r' });
    await until(first, 'back', /one\r\n/);
    const seen = first.received.filter(({ method }) => method === 'interactive.output').map(({ params }) => params);
    const last = Number(seen.at(-1)?.seq);
    first.socket.terminate();
    await first.closed;

    const second = await open('alice');
    const { result } = await second.call('interactive.start', { session_id: 'back', after_seq: last });
    expect(result).toMatchObject({ resumed: true, cols: 80, rows: 24 });
    await second.call('interactive.input', { session_id: 'back', data: 'echo t""wo\r' });
    await until(second, 'back', /two\r\n/);
    expect(output(second, 'back')).not.toContain('one\r\n');
    const third = await open('alice');
    await third.call('interactive.start', { session_id: 'back' });
    await until(third, 'back', /one\r\n[\s\S]*two\r\n/);
    expect(output(third, 'back').match(/one\r\n/g)).toHaveLength(1);
    // Again on the same connection: the stream is replaced, not doubled.
    await third.call('interactive.start', { session_id: 'back', after_seq: 1e9 });
    const before = output(third, 'back').length;
    await third.call('interactive.input', { session_id: 'back', data: 'echo th""ree\r' });
    await until(third, 'back', /three\r\n/);
    expect(
      output(third, 'back')
        .slice(before)
        .match(/three\r\n/g),
    ).toHaveLength(1);
    await until(second, 'back', /three\r\n/);

    await second.call('interactive.close', { session_id: 'back' });
    for (const client of [second, third]) {
      await client.until(({ method }) => method === 'interactive.exit');
      client.socket.close();
    }
  });

  it('a caller of interactive.start over HTTP gets the way to attach', async () => {
    const rpc = async (method: string, params: object): Promise<Message> => {
      const response = await fetch(`${gateway.url}/jsonrpc`, {
        method: 'POST',
        headers: { 'x-api-key': 'alice-key', 'content-type': 'application/json' },
        body: JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }),
      });
      return JSON.parse(await response.text());
    };
    const { session_id, attach, cols } = Started.parse((await rpc('interactive.start', { cols: 100 })).result);
    expect({ cols, url: attach.url }).toEqual({ cols: 100, url });
    expect(attach.protocols).toEqual(['gateway.v1', `gateway.ticket.${attach.ticket}`]);
    await rpc('interactive.input', { session_id, data: 'echo over""http\r' });
    const client = await connect(attach.url, { headers: {}, protocols: attach.protocols });
    // The first call that names the terminal brings its output, from the beginning.
    await client.call('interactive.input', { session_id, data: 'echo over""the socket\r' });
    await until(client, session_id, /overhttp\r\n.*overthe socket\r\n/s);
    await client.call('interactive.start', { session_id, after_seq: 1_000_000 });
    await client.call('interactive.input', { session_id, data: 'echo on""ce\r' });
    await until(client, session_id, /once\r\n/);
    expect(output(client, session_id).match(/once\r\n/g)).toHaveLength(1);
    expect((await rpc('interactive.close', { session_id })).result).toMatchObject({ closed: true });
    client.socket.close();
  });

  it('another key’s terminal is answered exactly like one that is not there', async () => {
    const [alice, bob] = await Promise.all([open('alice'), open('bob')]);
    await alice.call('interactive.start', { session_id: 'mine' });
    const calls: readonly (readonly [string, object])[] = [
      ['interactive.input', { data: 'touch /tmp/bob-was-here\r' }],
      ['interactive.resize', { cols: 10, rows: 10 }],
      ['interactive.close', {}],
    ];
    for (const [method, params] of calls) {
      const [foreign, missing] = await Promise.all(
        ['mine', 'nobodys'].map((session_id) => bob.call(method, { ...params, session_id })),
      );
      const comparable = ({ error }: NonNullable<typeof foreign>) => ({
        ...error,
        data: { ...error?.data, request_id: '' },
      });
      expect(foreign?.error?.code).toBe(404);
      expect(foreign && comparable(foreign)).toEqual(missing && comparable(missing));
    }
    // His own of the same name is another terminal, in another workspace.
    const { result } = await bob.call('interactive.start', { session_id: 'mine', cols: 33 });
    expect(result).toMatchObject({ resumed: false, cols: 33 });
    await alice.call('interactive.input', { session_id: 'mine', data: 'stty size; ls /tmp; echo e""nd\r' });
    await until(alice, 'mine', /24 80\r\n[\s\S]*end\r\n/);
    expect(output(alice, 'mine')).not.toContain('bob-was-here');
    expect(output(bob, 'mine')).not.toContain('24 80');
    for (const client of [alice, bob]) {
      await client.call('interactive.close', { session_id: 'mine' });
      client.socket.close();
    }
  });

  it('the memory for a slow reader is bounded: output that it does not take is not read from the terminal', async () => {
    const client = await open('bob');
    await client.call('interactive.start', { session_id: 'flood' });
    const baseline = process.memoryUsage().rss;
    client.socket.pause();
    client.send({ jsonrpc: '2.0', method: 'interactive.input', params: { session_id: 'flood', data: 'yes\r' } });
    const request = { shell: '/bin/sh', cwd: undefined, env: {}, requestId: 'req_1' };
    const start = () => gateway.services.terminals.start({ owner: 'bob', sessionId: 'flood' }, request);
    await untilStable(async () => (await start()).seq);
    expect(process.memoryUsage().rss - baseline).toBeLessThan(64 << 20);
    client.socket.resume();
    await client.call('interactive.close', { session_id: 'flood' });
    client.socket.close();
  });
});
