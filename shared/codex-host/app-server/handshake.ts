// The messages of the handshake with `codex app-server` 0.169.0. A test compares them with the types that the installed
// version generates.
import { z } from 'zod';

export interface InitializeParams {
  readonly clientInfo: { readonly name: string; readonly title: string | null; readonly version: string };
  readonly capabilities: {
    readonly experimentalApi: boolean;
    readonly requestAttestation: boolean;
    readonly optOutNotificationMethods?: string[];
  };
}

/**
 * Notifications that the gateway does not use. The server does not send them, because the handshake opts out of them.
 */
export const UNWANTED = [
  'account/rateLimits/updated',
  'item/fileChange/outputDelta',
  'item/fileChange/patchUpdated',
  'item/plan/delta',
  'item/reasoning/summaryPartAdded',
  'remoteControl/status/changed',
  'thread/readState/changed',
  'thread/settings/updated',
  'thread/started',
  'thread/status/changed',
  'turn/diff/updated',
  'turn/plan/updated',
  'turn/started',
] as const;

/** The fields of the response that are read. */
export const InitializeResult = z.object({ userAgent: z.string() });
