// The messages of the handshake with `codex app-server` 0.169.0. A test generates the types of the installed version
// and compares.
import { z } from 'zod';

export interface InitializeParams {
  readonly clientInfo: { readonly name: string; readonly title: string | null; readonly version: string };
  readonly capabilities: {
    readonly experimentalApi: boolean;
    readonly requestAttestation: boolean;
    readonly optOutNotificationMethods?: string[];
  };
}

/** Notifications that the gateway does not use: the server does not send them. */
export const UNWANTED = [
  'account/rateLimits/updated',
  'item/fileChange/outputDelta',
  'item/fileChange/patchUpdated',
  'item/plan/delta',
  'item/reasoning/summaryPartAdded',
  'item/reasoning/summaryTextDelta',
  'item/reasoning/textDelta',
  'remoteControl/status/changed',
  'thread/readState/changed',
  'thread/settings/updated',
  'thread/started',
  'thread/status/changed',
  'turn/diff/updated',
  'turn/plan/updated',
  'turn/started',
] as const;

/** The members of the answer that are read. */
export const InitializeResult = z.object({ userAgent: z.string() });
