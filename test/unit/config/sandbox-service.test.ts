// The environment of the sandbox service states who may call it, and every mistake is one clear line that never shows a
// secret.
import { describe, expect, it } from 'vitest';
import type { Environment } from '../../../shared/config/environment.ts';
import { ConfigError } from '../../../shared/config/read-variables.ts';
import { loadSandboxConfig } from '../../../shared/config/sandbox-service.ts';

const SANDBOX_TOKEN = 'a-shared-secret-of-32-characters';

function problems(env: Environment): readonly string[] {
  try {
    loadSandboxConfig(env);
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
  throw new Error('was accepted');
}

describe('callers of the sandbox service', () => {
  it('callers of the sandbox service have a token, or ID tokens for an audience', () => {
    expect(loadSandboxConfig({ SANDBOX_TOKEN })).toMatchObject({
      ...{ host: '127.0.0.1', port: 8081, dataDir: '.data', admission: { token: SANDBOX_TOKEN }, warnings: [] },
    });
    const env = { SANDBOX_AUDIENCE: 'https://s.example', SANDBOX_CALLERS: 'a@p.example b@p.example' };
    expect(loadSandboxConfig(env).admission).toEqual({
      audience: 'https://s.example',
      callers: ['a@p.example', 'b@p.example'],
    });
  });

  const NOT_ONE = ['SANDBOX_TOKEN: must be set, or SANDBOX_AUDIENCE with SANDBOX_CALLERS instead of it, and not both'];
  it.each<readonly [string, Environment, readonly string[]]>([
    ['neither', {}, NOT_ONE],
    ['both', { SANDBOX_TOKEN, SANDBOX_AUDIENCE: 'a', SANDBOX_CALLERS: 'a@p.example' }, NOT_ONE],
    [
      'an audience without callers',
      { SANDBOX_AUDIENCE: 'a' },
      ['SANDBOX_CALLERS: must be set with SANDBOX_AUDIENCE: the service accounts of the callers'],
    ],
    ['a short token', { SANDBOX_TOKEN: 'short' }, ['SANDBOX_TOKEN: must have at least 32 characters']],
    ['an empty token', { SANDBOX_TOKEN: ' ' }, NOT_ONE],
  ])('callers of the sandbox service are refused at start with one line: %s', (_, env, lines) => {
    expect(problems(env)).toEqual(lines);
  });
});

describe('servers registered at the sandbox service', () => {
  const register = (server: object): Environment => ({ SANDBOX_TOKEN, MCP_SERVERS: JSON.stringify({ it: server }) });

  it('registered servers are programs; those with an environment are marked, because their processes can read it', () => {
    expect(loadSandboxConfig(register({ command: 'run' })).servers.get('it')).toMatchObject({ command: 'run' });
    const marked = { command: 'run', env: { TOKEN: 'secret' }, in_sandbox: true };
    expect(loadSandboxConfig(register(marked)).servers.get('it')).toMatchObject({ env: { TOKEN: 'secret' } });
  });

  it.each([
    [
      { command: 'run', env: { TOKEN: 'secret' } },
      'MCP_SERVERS: it has "env", which its processes can read: mark it "in_sandbox": true',
    ],
    [{ url: 'https://m.example' }, 'MCP_SERVERS: it is reached by URL: register it at the gateway'],
  ])('servers registered at the sandbox service are refused at start: %j', (server, line) => {
    expect(problems(register(server))).toEqual([line]);
  });
});
