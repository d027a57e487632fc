// What a tool answered, with every digit of its numbers: structured content that JavaScript would round is given as
// JSON text.
import type { CallToolResult } from '@modelcontextprotocol/client';
import { digitsOf, hasMarks, isMarked, toExactText } from '../rpc/exact-json.ts';

/** As the protocol has it, but structured content is JSON text where parsing would lose digits of a number. */
export interface McpResult {
  readonly content: CallToolResult['content'];
  readonly structuredContent?: unknown;
  readonly isError?: boolean | undefined;
}

/**
 * `result` as it was read with marked numbers. In content blocks, which have no number but in metadata, a number
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
