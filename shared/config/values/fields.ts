// Zod schemas for values of environment variables, shared by the gateway and the sandbox service.

import { accessSync, constants, readFileSync } from 'node:fs';
import { z } from 'zod';
import { codeOf } from '../../errors.ts';
import { isLoopback } from './loopback.ts';

export const proxyUrl = z
  .string()
  .refine((text) => /^https?:\/\/\S+$/.test(text) && URL.canParse(text), 'must be an http(s) URL');
/**
 * A URL must not contain credentials, because no client of the gateway sends them. They belong in a key or a header.
 */
export const url = proxyUrl.refine((text) => !hasCredentials(text), 'must be a URL without user and password');
/** For URLs to which a secret is sent: plain http is allowed only to this machine. */
export const encryptedUrl = url.refine(
  (text) => !URL.canParse(text) || text.startsWith('https:') || isLoopback(hostOf(text)),
  'must be an https URL; plain http only for a loopback address',
);
export const socketUrl = z
  .string()
  .refine((text) => /^wss?:\/\/\S+$/.test(text) && URL.canParse(text) && !hasCredentials(text), 'must be a ws(s) URL');
export const port = z.coerce.number({ error: 'must be a port number' }).int().min(0).max(65_535);
export const host = z.string().regex(/^[\w.:%-]{1,253}$/, 'must be a host name or an IP address');
export const oneLine = z.string().regex(/^\P{Cc}+$/u, 'must not contain control characters');
export const account = z.string().regex(/^[^\s@]+@[^\s@]+$/, 'must be the e-mail address of a service account');
export const accounts = z
  .string()
  .transform((text) => text.split(/[\s,]+/).filter((part) => part !== ''))
  .pipe(z.array(account, { error: 'must be e-mail addresses of service accounts' }).min(1));
/** A credential that can be sent as the value of a header. */
export const headerValue = z.string().regex(/^[\x21-\x7e]+$/, 'must be visible ASCII characters without spaces');
/** A value of a header: a credential, or words and parameters. */
export const headerText = z
  .string()
  .regex(/^[\x21-\x7e](?:[\x20-\x7e]{0,4094}[\x21-\x7e])?$/, 'must be visible ASCII characters');
/** A secret of at least 32 characters, so that it cannot be guessed. */
export const sharedSecret = headerValue.min(32, 'must have at least 32 characters').max(4_096);
export const executable = z.string().refine(isFile(constants.X_OK), 'must be the path of an executable file');
export const readableFile = z.string().refine(isFile(constants.R_OK), 'the file cannot be read');
export const logFormat = z.enum(['json', 'pretty']);

/** Makes a schema of a function that throws for invalid values; its error message becomes the message of the issue. */
export const readBy = <T>(read: (text: string) => T) =>
  z.string().transform((text, context) => {
    try {
      return read(text);
    } catch (error) {
      context.addIssue({ code: 'custom', message: error instanceof Error ? error.message : String(error) });
      return z.NEVER;
    }
  });

/**
 * Reads the file for a value `@path`, and returns any other value unchanged. For a file, removes surrounding white
 * space and the byte order mark that Windows programs write.
 */
export function inlineOrFile(value: string): string {
  if (!value.startsWith('@')) return value;
  try {
    return readFileSync(value.slice(1), 'utf8').trim();
  } catch (error) {
    throw new Error(`the file cannot be read (${codeOf(error)})`);
  }
}

/** Returns the host name without the brackets of an IPv6 address. */
function hostOf(text: string): string {
  return new URL(text).hostname.replaceAll(/[[\]]/g, '');
}

function isFile(mode: number): (path: string) => boolean {
  return (path) => {
    try {
      accessSync(path, mode);
      return true;
    } catch {
      return false;
    }
  };
}

function hasCredentials(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const { username, password } = new URL(text);
  return username !== '' || password !== '';
}
