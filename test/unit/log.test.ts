// Log lines: one JSON object each as Cloud Logging reads it, written in order, together, and before the process ends.
import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { createLogger, errorFields } from '../../shared/log.ts';

function capture(format: 'json' | 'pretty') {
  const writes: string[] = [];
  return { writes, log: createLogger({ format, write: (text) => writes.push(text) }) };
}

describe('json lines', () => {
  it('carry severity, time, message and fields, one object a line', async () => {
    const { writes, log } = capture('json');
    log.log('INFO', 'call', { request_id: 'r', ms: 1.5, remaining: undefined });
    log.log('ERROR', 'line\nbreak', { text: '"quoted"\n' });
    await turn();
    const lines = writes
      .join('')
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as unknown);
    expect(lines).toEqual([
      { severity: 'INFO', time: expect.stringMatching(/^\d{4}-.*Z$/), message: 'call', request_id: 'r', ms: 1.5 },
      { severity: 'ERROR', time: expect.any(String), message: 'line\nbreak', text: '"quoted"\n' },
    ]);
  });

  it('of one turn of the event loop are written at once, in order', async () => {
    const { writes, log } = capture('json');
    for (let n = 0; n < 10; n++) log.log('INFO', `m${n}`);
    expect(writes).toEqual([]);
    await turn();
    expect(writes).toHaveLength(1);
    expect(writes[0]?.match(/"m\d"/g)).toEqual(Array.from({ length: 10 }, (_, n) => `"m${n}"`));
  });

  it('never gather without bound, and flush writes what is there', () => {
    const { writes, log } = capture('json');
    for (let n = 0; n < 1000; n++) log.log('INFO', 'x'.repeat(1000));
    expect(writes.length).toBeGreaterThan(10);
    log.flush();
    expect(writes.join('').split('\n')).toHaveLength(1001);
    log.flush();
    expect(writes.at(-1)).not.toBe('');
  });
});

describe('pretty lines', () => {
  it('are for people', () => {
    const { writes, log } = capture('pretty');
    log.log('INFO', 'call', { method: 'a.b', ms: 3, none: undefined });
    log.flush();
    expect(writes.join('')).toMatch(/^\d\d:\d\d:\d\d\.\d{3} INFO {4}call method=a\.b ms=3\n$/);
  });
});

describe('the fields of an error', () => {
  it('are its chain of causes, at most four deep', () => {
    const chain = Array.from({ length: 6 }).reduce<Error | undefined>(
      (cause, _, n) => new Error(`level ${6 - n}`, { cause }),
      undefined,
    );
    const { error } = errorFields(chain);
    expect(String(error).match(/level \d/g)).toEqual(['level 1', 'level 2', 'level 3', 'level 4']);
  });

  it('survive what is not an error, and an error that is its own cause', () => {
    expect(errorFields('text')).toEqual({ error: 'text' });
    const loop = new Error('loop');
    loop.cause = loop;
    expect(String(errorFields(loop).error).match(/caused by/g)).toHaveLength(3);
  });
});
