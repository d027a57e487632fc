/** The version of Codex that protocol.ts was made from, and that package.json pins. */
export const CODEX_VERSION = '0.169.0';
