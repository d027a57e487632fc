// The result of a tool with every digit of its numbers: structured content that JavaScript would round is returned as
// JSON text.
import type { CallToolResult } from '@modelcontextprotocol/client';
import { digitsOf, hasMarks, isMarked, toExactText } from '../rpc/exact-json.ts';

/** As in the protocol, except that structured content is JSON text where parsing would lose digits of a number. */
export interface McpResult {
  readonly content: CallToolResult['content'];
  readonly structuredContent?: unknown;
  readonly isError?: boolean | undefined;
}

/**
 * `result` was parsed with marked numbers. In content blocks, which have numbers in metadata only, a marked number
 * becomes its digits.
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
