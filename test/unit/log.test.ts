// Each log line is one JSON object in the form that Cloud Logging reads. Lines are written in order, together, and
// before the process ends.
import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { causeOf, createLogger, errorFields, type Logger, type LoggerOptions } from '../../shared/log.ts';
import { inTrace } from '../../shared/telemetry/trace.ts';

function capture(format: 'json' | 'pretty', options: Partial<LoggerOptions> = {}) {
  const writes: string[] = [];
  return { writes, log: createLogger({ format, write: (text) => writes.push(text), ...options }) };
}

/** The line that `write` logs. */
function lineOf(write: (log: Logger) => void, options: Partial<LoggerOptions> = {}): unknown {
  const { writes, log } = capture('json', options);
  write(log);
  log.flush();
  return JSON.parse(writes.join(''));
}

describe('json lines', () => {
  it('json lines have severity, time, message and fields, one object a line', async () => {
    const { writes, log } = capture('json');
    log.info('call', { request_id: 'r', ms: 1.5, remaining: undefined });
    log.error('line\nbreak', { text: '"quoted"\n' });
    await turn();
    const lines = writes
      .join('')
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as unknown);
    expect(lines).toEqual([
      { severity: 'INFO', time: expect.stringMatching(/^\d{4}-.*Z$/), message: 'call', request_id: 'r', ms: 1.5 },
      expect.objectContaining({ severity: 'ERROR', message: 'line\nbreak', text: '"quoted"\n' }),
    ]);
  });

  it('json lines of one turn of the event loop are written at once, in order', async () => {
    const { writes, log } = capture('json');
    for (let n = 0; n < 10; n++) log.info(`m${n}`);
    expect(writes).toEqual([]);
    await turn();
    expect(writes).toHaveLength(1);
    expect(writes[0]?.match(/"m\d"/g)).toEqual(Array.from({ length: 10 }, (_, n) => `"m${n}"`));
  });

  it('json lines never gather without bound, and flush writes what is there', () => {
    const { writes, log } = capture('json');
    for (let n = 0; n < 1000; n++) log.info('x'.repeat(1000));
    expect(writes.length).toBeGreaterThan(10);
    log.flush();
    expect(writes.join('').split('\n')).toHaveLength(1001);
    log.flush();
    expect(writes.at(-1)).not.toBe('');
  });
});

it('the fields of an error have a bounded length', () => {
  const error = new Error('x'.repeat(1_000_000), { cause: new Error('y'.repeat(1_000_000)) });
  expect(String(errorFields(error).error).length).toBeLessThan(40_000);
  expect(causeOf(error)).toBe(`${'y'.repeat(500)}…`);
  expect(causeOf(new Error('alone'))).toBeUndefined();
});

describe('json lines in Google Cloud', () => {
  const service = { service: 'jsonrpc', version: 'jsonrpc-00042' };

  it('errors in Google Cloud are grouped by their stack, or by their message without one', () => {
    const error = new Error('broken', { cause: new TypeError('below') });
    expect(lineOf((log) => log.error('failed', { turn_id: 't', ...errorFields(error) }), { service })).toEqual({
      severity: 'ERROR',
      time: expect.any(String),
      message: 'failed',
      turn_id: 't',
      serviceContext: service,
      stack_trace: expect.stringMatching(/^Error: broken\n +at [\s\S]*\ncaused by: TypeError: below\n +at /),
    });
    expect(lineOf((log) => log.error('no key is valid'), { service })).toEqual({
      severity: 'ERROR',
      time: expect.any(String),
      message: 'no key is valid',
      serviceContext: service,
      '@type': 'type.googleapis.com/google.devtools.clouderrorreporting.v1beta1.ReportedErrorEvent',
    });
  });

  it('a warning is no error of Error Reporting', () => {
    const line = lineOf((log) => log.warn('tried again', errorFields(new Error('lost'))), { service });
    expect(Object.keys(Object(line))).toEqual(['severity', 'time', 'message', 'error']);
  });

  it('lines of a request in Google Cloud have its trace in the project', () => {
    const trace = { traceId: 'a'.repeat(32), spanId: 'b'.repeat(16), sampled: false };
    expect(lineOf((log) => inTrace(trace, () => log.info('call')), { projectId: 'p' })).toEqual({
      severity: 'INFO',
      time: expect.any(String),
      message: 'call',
      'logging.googleapis.com/trace': `projects/p/traces/${trace.traceId}`,
      'logging.googleapis.com/spanId': trace.spanId,
      'logging.googleapis.com/trace_sampled': false,
    });
  });
});

describe('pretty lines', () => {
  it('the line of a call begins with its method, outcome and duration', () => {
    const { writes, log } = capture('pretty');
    log.info('call', {
      request_id: 'req_1',
      key_id: 'app',
      transport: 'sse',
      method: 'conversation.prompt',
      outcome: 'ok',
      ms: 1234.567,
      overhead_ms: 0.912,
      stages: { limit: 0.411, model: 1210.2 },
      rate: 'admitted',
      session_id: 's',
      model: 'openai/gpt-5.2',
      provider: 'openai',
      input_tokens: 14,
      output_tokens: 21,
      error: undefined,
    });
    log.info('call', { method: 'auth.limits', outcome: 'ok', ms: 0.1234, request_id: 'req_2' });
    log.flush();
    const lines = writes
      .join('')
      .split('\n')
      .map((line) => line.slice(13));
    expect(lines).toEqual([
      'INFO    conversation.prompt ok in 1.23 s, openai/gpt-5.2, 14 + 21 tokens key_id=app transport=sse ' +
        'overhead_ms=0.9 stages=limit:0.4,model:1210.2 rate=admitted session_id=s request_id=req_1',
      'INFO    auth.limits ok in 0.123 ms request_id=req_2',
      '',
    ]);
  });

  it('pretty values with spaces are quoted', () => {
    const { writes, log } = capture('pretty');
    log.warn('turn failed', { error: 'Anthropic failed (529): Overloaded', hint: 'wait a while', n: 1 });
    log.flush();
    expect(writes.join('').slice(13)).toBe(
      'WARNING turn failed error=Anthropic failed (529): Overloaded hint="wait a while" n=1\n',
    );
  });

  it('a pretty line has time, severity, message and fields', () => {
    const { writes, log } = capture('pretty');
    log.info('started', { port: 8080, ms: 3, none: undefined });
    log.flush();
    expect(writes.join('')).toMatch(/^\d\d:\d\d:\d\d\.\d{3} INFO {4}started port=8080 ms=3\n$/);
  });
});

describe('characters that change how a terminal shows a line', () => {
  const UNSAFE = [
    ...['\0', '\x07', '\b', '\n', '\r', '\x1b', '\x7f', '\x85', '\x9b', '\x9f', '\ufeff'],
    ...['\u061c', '\u200e', '\u200f', '\u2028', '\u2029', '\u202a', '\u202e', '\u2066', '\u2069'],
  ];
  const RAW = new RegExp(`[${UNSAFE.join('')}]`);
  const text = `a${UNSAFE.join('b')}c`;
  const write = (format: 'json' | 'pretty', message: string, fields: object): string => {
    const { writes, log } = capture(format);
    log.info(message, { ...fields });
    log.flush();
    return writes.join('');
  };

  it.each(['json', 'pretty'] as const)(
    'characters that change how a terminal shows a line are escaped in the message, names and values: %s',
    (format) => {
      const line = write(format, text, { [text]: text, list: [text], map: { [text]: text } });
      expect(line.endsWith('\n')).toBe(true);
      expect(line.slice(0, -1)).not.toMatch(RAW);
      expect(line).toContain('\\u009b');
      expect(line).toContain('\\u202e');
    },
  );

  it('escaped characters are the same again when the JSON line is parsed', () => {
    expect(JSON.parse(write('json', text, { [text]: text }))).toMatchObject({ message: text, [text]: text });
  });

  it('characters that change how a terminal shows a line are escaped in a pretty stack, whose own lines are set off from the lines of the log', () => {
    const cause = new Error(`cause \x1b[2J\u202e\n00:00:00.000 ERROR   forged`);
    const lines = write('pretty', 'failed', errorFields(new Error('above', { cause })))
      .trimEnd()
      .split('\n');
    expect(lines.length).toBeGreaterThan(3);
    for (const line of lines.slice(1)) expect(line).toMatch(/^ {6}/);
    expect(lines.join('')).not.toMatch(RAW);
  });
});

describe('the fields of an error', () => {
  it('the fields of an error are its chain of causes, at most four deep', () => {
    const chain = Array.from({ length: 6 }).reduce<Error | undefined>(
      (cause, _, n) => new Error(`level ${6 - n}`, { cause }),
      undefined,
    );
    const { error } = errorFields(chain);
    expect(String(error).match(/level \d/g)).toEqual(['level 1', 'level 2', 'level 3', 'level 4']);
  });

  it('the fields of an error survive what is not an error, and an error that is its own cause', () => {
    expect(errorFields('text')).toEqual({ error: 'text' });
    const loop = new Error('loop');
    loop.cause = loop;
    expect(String(errorFields(loop).error).match(/caused by/g)).toHaveLength(3);
  });
});
