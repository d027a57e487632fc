// The server handles WebSocket frames as RFC 6455 requires, sent over raw sockets in the categories of the Autobahn
// test suite (https://github.com/crossbario/autobahn-testsuite) and with random damage.
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { closeFrame, frame, OPCODE, openRaw, type RawClient } from '../../support/fixtures/clients/frames.ts';
import { anyCharacter } from '../../support/fixtures/fuzz/characters.ts';
import { createFixture, type Fixture, KEY, type Message } from '../../support/fixtures/gateway/companion.ts';

/** Streams; `FUZZ_CASES` gives their number, as that of the suites of test/fuzz. */
const DAMAGED = Math.ceil(Number(process.env.FUZZ_CASES ?? 4_000) / 2);

let fixture: Fixture;
beforeAll(async () => {
  fixture = await createFixture({ sockets: { perKeyMax: 1_000, tickMs: 50 } });
});
afterAll(() => fixture.close());

const { text, continuation, ping, pong, close } = OPCODE;
const request = (id: string | number, pad = 0): string =>
  `{"jsonrpc":"2.0","method":"conversation.status","params":{"session_id":"é✓😀"},"id":${JSON.stringify(id)}}${' '.repeat(pad)}`;
const sized = (bytes: number): string => request('sized', bytes - Buffer.byteLength(request('sized')));

/** The connection is as good as new: a call is answered. */
async function expectAlive(client: RawClient): Promise<void> {
  client.write(frame(text, request('alive')));
  await client.until(({ opcode, payload }) => opcode === text && String(payload).includes('"alive"'));
  client.write(closeFrame(1000));
  expect(await client.ended).toBe(1000);
}

/** Sends bytes (in pieces, where there are several) and expects the connection to stay open. */
function survives(...pieces: readonly Uint8Array[]): () => Promise<void> {
  return async () => {
    const client = await openRaw(fixture.port, KEY);
    for (const piece of pieces) client.write(piece);
    await expectAlive(client);
  };
}

/** Sends bytes and expects the server to end the connection with a code. */
function ends(code: number, ...pieces: readonly Uint8Array[]): () => Promise<void> {
  return async () => {
    const client = await openRaw(fixture.port, KEY);
    for (const piece of pieces) client.write(piece);
    expect(await client.ended).toBe(code);
  };
}

/** Sends bytes and expects an answer to the call with this id, and that the connection stays open. */
function answers(id: string, ...pieces: readonly Uint8Array[]): () => Promise<void> {
  return async () => {
    const client = await openRaw(fixture.port, KEY);
    for (const piece of pieces) client.write(piece);
    const answer = await client.until(
      (found) => found.opcode === text && String(found.payload).includes(`"id":"${id}"`),
    );
    const message: Message = JSON.parse(String(answer.payload));
    expect(message.result).toEqual({ status: 'not_found', session_id: 'é✓😀' });
    await expectAlive(client);
  };
}

describe('framing', () => {
  it.each([126, 127, 128, 65_535, 65_536, 65_537, 1 << 20])('a text message of %i bytes is answered', (bytes) =>
    answers('sized', frame(text, sized(bytes)))(),
  );
  it(
    'a message whose length is written longer than need be is answered',
    answers('sized', frame(text, sized(110), { lengthBytes: 8 })),
  );
  it('a message that arrives byte by byte is answered', () =>
    answers('sized', ...[...frame(text, sized(130))].map((byte) => Uint8Array.of(byte)))());
  it(
    'several messages that arrive in one piece are answered',
    answers('b', Buffer.concat([frame(text, request('a')), frame(text, request('b'))])),
  );
  it('a message that arrives with the handshake is answered', async () => {
    const client = await openRaw(fixture.port, KEY, frame(text, request('early')));
    await client.until(({ payload }) => String(payload).includes('"early"'));
    await expectAlive(client);
  });
  it('an empty message is answered with a parse error', async () => {
    const client = await openRaw(fixture.port, KEY);
    client.write(frame(text, ''));
    const { payload } = await client.until(({ opcode }) => opcode === text);
    expect(JSON.parse(String(payload))).toMatchObject({ id: null, error: { code: -32700 } });
    await expectAlive(client);
  });
  it(
    'a frame without a mask closes the connection with 1002',
    ends(1002, frame(text, request('a'), { masked: false })),
  );
});

describe('pings and pongs', () => {
  it.each([
    ['nothing', Buffer.alloc(0)],
    ['text', Buffer.from('Hello, world!')],
    ['bytes that are not text', Buffer.from([0x00, 0xff, 0xfe, 0xfd, 0xfc])],
    ['125 bytes', Buffer.alloc(125, 0xfe)],
  ])('a ping of %s is answered with the same', async (_, payload) => {
    const client = await openRaw(fixture.port, KEY);
    client.write(frame(ping, payload));
    const found = await client.until(({ opcode }) => opcode === pong);
    expect(found.payload.equals(payload)).toBe(true);
    await expectAlive(client);
  });
  it('a ping of 126 bytes is refused', ends(1002, frame(ping, Buffer.alloc(126))));
  it('a ping that is a fragment is refused', ends(1002, frame(ping, 'a', { fin: false })));
  it('a pong that is a fragment is refused', ends(1002, frame(pong, 'a', { fin: false })));
  it('a pong without a ping changes nothing', survives(frame(pong, 'a'), frame(pong)));
  it('ten pings get their ten pongs in order', async () => {
    const client = await openRaw(fixture.port, KEY);
    for (let n = 0; n < 10; n++) client.write(frame(ping, `n${n}`));
    await client.until(({ payload }) => String(payload) === 'n9');
    const pongs = client.frames.filter(({ opcode }) => opcode === pong).map(({ payload }) => String(payload));
    expect(pongs).toEqual(Array.from({ length: 10 }, (_, n) => `n${n}`));
    await expectAlive(client);
  });
});

describe('reserved bits and opcodes', () => {
  it.each([1, 2, 3, 4, 5, 6, 7])('reserved bits %i in text are refused', (rsv) =>
    ends(1002, frame(text, request('a'), { rsv }))(),
  );
  it.each([
    ['ping', ping],
    ['pong', pong],
    ['close', close],
  ])('a reserved bit in a %s is refused', (_, opcode) => ends(1002, frame(opcode, '', { rsv: 4 }))());
  it.each([3, 4, 5, 6, 7, 11, 12, 13, 14, 15])('a frame with the reserved opcode %i is refused', (opcode) =>
    ends(1002, frame(opcode, 'x'))(),
  );
});

describe('fragments', () => {
  const whole = Buffer.from(request('sized'));
  const part = (from: number, to?: number): Buffer => whole.subarray(from, to);
  it(
    'fragments of a message are joined before it is answered',
    answers('sized', frame(text, part(0, 10), { fin: false }), frame(continuation, part(10))),
  );
  it(
    'fragments may be empty, cut characters, and have pings between them',
    answers(
      'sized',
      frame(text, '', { fin: false }),
      ...[...whole].flatMap((byte, index) => [
        frame(continuation, Uint8Array.of(byte), { fin: false }),
        ...(index % 4 === 0 ? [frame(ping)] : []),
      ]),
      frame(continuation, ''),
    ),
  );
  it('a fragmented message is answered after its last fragment, a control frame at once', async () => {
    const client = await openRaw(fixture.port, KEY);
    client.write(frame(text, part(0, 10), { fin: false }));
    client.write(frame(ping, 'between'));
    await client.until(({ opcode }) => opcode === pong);
    expect(client.frames.some(({ opcode }) => opcode === text)).toBe(false);
    client.write(frame(continuation, part(10)));
    await client.until(({ payload }) => String(payload).includes('"sized"'));
    await expectAlive(client);
  });
  it('fragments cannot continue what never began', ends(1002, frame(continuation, 'x')));
  it('an unfinished fragment cannot continue what never began', ends(1002, frame(continuation, 'x', { fin: false })));
  it(
    'fragments cannot continue what has ended',
    ends(1002, frame(text, part(0, 10), { fin: false }), frame(continuation, part(10)), frame(continuation, 'x')),
  );
  it(
    'fragments cannot be interrupted by another message',
    ends(1002, frame(text, part(0, 10), { fin: false }), frame(text, 'x')),
  );
  it(
    'fragments are limited in number',
    ends(
      1008,
      frame(text, ' ', { fin: false }),
      ...Array.from({ length: 1_100 }, () => frame(continuation, ' ', { fin: false })),
    ),
  );
});

describe('text', () => {
  it.each([
    ['a lone continuation byte', [0x80]],
    ['a sequence that is cut off', [0xe2, 0x82]],
    ['an overlong slash', [0xc0, 0xaf]],
    ['an overlong null', [0xe0, 0x80, 0x80]],
    ['a surrogate', [0xed, 0xa0, 0x80]],
    ['a code point beyond U+10FFFF', [0xf4, 0x90, 0x80, 0x80]],
    ['bytes that are never UTF-8', [0xfe, 0xff]],
    ['a five byte sequence', [0xf8, 0x88, 0x80, 0x80, 0x80]],
  ])('text with %s is refused with 1007', (_, bytes) =>
    ends(1007, frame(text, Buffer.concat([Buffer.from('{"jsonrpc":"'), Buffer.from(bytes), Buffer.from('"}')])))(),
  );
  it(
    'text is refused when a fragment makes it invalid',
    ends(1007, frame(text, Buffer.from('κόσμ'), { fin: false }), frame(continuation, Uint8Array.of(0xed, 0xa0, 0x80))),
  );
  it('text may use all of Unicode, noncharacters and null too', async () => {
    const client = await openRaw(fixture.port, KEY);
    client.write(frame(text, JSON.stringify({ jsonrpc: '2.0', method: '\u{10FFFF}\uFFFE\u0000', id: '\u{1F600}' })));
    const { payload } = await client.until(({ opcode }) => opcode === text);
    expect(JSON.parse(String(payload))).toMatchObject({ id: '\u{1F600}', error: { code: -32601 } });
    await expectAlive(client);
  });
});

describe('closing', () => {
  it.each([1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999])(
    'a close frame with the code %i is answered with the same code',
    (code) => ends(code, closeFrame(code, 'bye'))(),
  );
  it('a close frame without a code is answered without one', ends(1005, closeFrame(undefined)));
  it.each([0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65_535])(
    'a close frame with the code %i is refused',
    (code) => ends(1002, closeFrame(code))(),
  );
  it('a close frame with half a code is refused', ends(1002, frame(close, Uint8Array.of(3))));
  it('a close frame with a reason that is too long is refused', ends(1002, closeFrame(1000, 'x'.repeat(124))));
  it('a close frame may have the longest reason', ends(1000, closeFrame(1000, 'x'.repeat(123))));
  it(
    'a close frame with a reason that is not text is refused',
    ends(1007, closeFrame(1000, Uint8Array.of(0xff, 0xfe))),
  );
  it('a close frame is the last frame that is read', async () => {
    const client = await openRaw(fixture.port, KEY);
    client.write(Buffer.concat([closeFrame(1000), frame(text, request('late')), frame(ping, 'late')]));
    expect(await client.ended).toBe(1000);
    expect(client.frames).toHaveLength(1);
  });
  it('a connection is closed when its peer ends it without a close frame', async () => {
    const client = await openRaw(fixture.port, KEY);
    client.socket.end();
    await client.ended;
  });
});

describe('sizes', () => {
  it('a message of more than 1 MiB is refused', ends(1009, frame(text, Buffer.alloc((1 << 20) + 1, 0x20))));
  it(
    'a message of more than 1 MiB is refused at its header, before its bytes arrive',
    ends(1009, frame(text, '', { claimedLength: (1n << 20n) + 1n })),
  );
  it(
    'fragments that add up to more than 1 MiB are refused',
    ends(
      1009,
      frame(text, Buffer.alloc(1 << 19, 0x20), { fin: false }),
      frame(continuation, Buffer.alloc(1 << 19, 0x20), { fin: false }),
      frame(continuation, ' '),
    ),
  );
  it.each([1n << 32n, (1n << 53n) + 1n, (1n << 63n) - 1n, (1n << 64n) - 1n])(
    'a frame that announces %s bytes is refused',
    (claimedLength) => ends(1009, frame(text, '', { claimedLength }))(),
  );
});

describe('damage', () => {
  const opcode = fc.constantFrom(0, 1, 1, 1, 2, 3, 8, 9, 10, 11);
  const payload = fc.oneof(
    fc.constant(Buffer.from(request('fuzz'))),
    fc.uint8Array({ maxLength: 200 }),
    fc.string({ unit: anyCharacter, maxLength: 80 }).map((string) => Buffer.from(string)),
  );
  const anyFrame = fc
    .tuple(opcode, payload, fc.boolean(), fc.nat(7), fc.nat(20), fc.nat(20))
    .map(([code, body, fin, rsv, odd, bare]) =>
      frame(code, body, { fin, rsv: odd === 0 ? rsv : 0, masked: bare !== 0 }),
    );
  const mutation = fc.tuple(fc.constantFrom('flip', 'drop', 'insert', 'cut'), fc.nat(400), fc.nat(255));
  const stream = fc
    .tuple(fc.array(anyFrame, { minLength: 1, maxLength: 4 }), fc.array(mutation, { minLength: 1, maxLength: 3 }))
    .map(([frames, mutations]) => mutations.reduce(damage, Buffer.concat(frames)));

  it(`${DAMAGED} kinds of damaged frames end no process and leave no connection`, async () => {
    const streams = fc.sample(stream, { numRuns: DAMAGED, seed: 20_261_122 });
    const before = process.memoryUsage().rss;
    let next = 0;
    const worker = async (): Promise<void> => {
      for (let bytes = streams[next++]; bytes !== undefined; bytes = streams[next++]) {
        const client = await openRaw(fixture.port, KEY);
        client.write(bytes);
        client.socket.end();
        await client.ended;
      }
    };
    await Promise.all(Array.from({ length: 32 }, worker));
    await expect.poll(() => fixture.sockets.size).toBe(0);
    const client = await openRaw(fixture.port, KEY);
    await expectAlive(client);
    expect(fixture.logged.filter((line) => /"severity":"(ERROR|CRITICAL)"/.test(line))).toEqual([]);
    expect(process.memoryUsage().rss - before).toBeLessThan(300 << 20);
  }, 240_000);
});

function damage(bytes: Buffer, [kind, at, value]: [string, number, number]): Buffer {
  const index = at % Math.max(1, bytes.length);
  const [head, tail] = [bytes.subarray(0, index), bytes.subarray(index)];
  if (kind === 'cut') return head;
  if (kind === 'drop') return Buffer.concat([head, tail.subarray(1)]);
  if (kind === 'insert') return Buffer.concat([head, Buffer.of(value), tail]);
  return Buffer.concat([head, Buffer.of((tail[0] ?? 0) ^ (1 << (value % 8))), tail.subarray(1)]);
}
