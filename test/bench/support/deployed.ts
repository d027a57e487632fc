// Starts the function and the companion of the built bundles for a bench, and defines the prompt that is sent to them.
import { createDeployed, type Deployed } from '../../support/fixtures/gateway/deployed.ts';

export const KEY = 'bench-key';
export const HEADERS = { 'x-api-key': KEY };
export const PROMPT = JSON.stringify({
  jsonrpc: '2.0',
  id: 1,
  method: 'conversation.prompt',
  params: { prompt: 'hello' },
});

export function deployForBench(): Promise<Deployed> {
  return createDeployed({
    // Else Google's library looks for one with `gcloud`, which takes seconds.
    GOOGLE_CLOUD_PROJECT: 'bench',
    GATEWAY_STORE: 'memory',
    GATEWAY_BUS: 'local',
    GATEWAY_API_KEY: KEY,
    GATEWAY_LIMITS: '1000000000/minute',
    MODEL: 'offline/echo',
  });
}
