// Random ids. Not by `crypto.randomUUID`, which browsers do not offer to pages over plain http, such as a console in a
// LAN.

/** 32 random hexadecimal digits. */
export function randomId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
