// Selects the tools of a server that are stored: as many as fit into a document.
import type { McpTool, Offer, OmittedTool } from './offer.ts';

const NAME_CHARS_MAX = 128;

/** The first tools whose JSON fits into the bytes; the others are omitted. */
export function fitOffer({ tools, omitted }: Offer, bytesMax: number): Offer {
  const fitting: McpTool[] = [];
  const left: OmittedTool[] = [];
  let bytes = Buffer.byteLength(JSON.stringify(omitted));
  for (const tool of tools) {
    const size = Buffer.byteLength(JSON.stringify(tool));
    if (bytes + size <= bytesMax) {
      bytes += size;
      fitting.push(tool);
    } else left.push({ tool: tool.name.slice(0, NAME_CHARS_MAX), reason: 'its description is not stored' });
  }
  return { tools: fitting, omitted: [...omitted, ...left] };
}
