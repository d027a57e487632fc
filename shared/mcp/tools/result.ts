// Converts the result of a tool without losing digits of numbers: structured content that JavaScript would round is
// returned as JSON text.
import type { CallToolResult } from '@modelcontextprotocol/client';
import { digitsOf, hasMarks, isMarked, toExactText } from '../../rpc/json/exact-json.ts';

/** The result as in the protocol, except that structured content is JSON text if parsing it would lose digits. */
export interface McpResult {
  readonly content: CallToolResult['content'];
  readonly structuredContent?: unknown;
  readonly isError?: boolean | undefined;
}

/**
 * `result` was parsed with marked numbers (exact-json.ts). In content blocks, which have numbers only in metadata,
 * a marked number becomes a string of its digits.
 */
export function toExactResult({ structuredContent, content, isError }: CallToolResult): McpResult {
  const exact: CallToolResult['content'] = hasMarks(content)
    ? JSON.parse(JSON.stringify(content), (_, member: unknown) => (isMarked(member) ? digitsOf(member) : member))
    : content;
  return {
    content: exact,
    isError,
    ...(structuredContent !== undefined && {
      structuredContent: hasMarks(structuredContent) ? toExactText(structuredContent) : structuredContent,
    }),
  };
}
