// The tools of a turn's calls. A model that cannot use tools refuses a request that declares any: then they are left
// out, so that a conversation that used tools can go on with such a model.
import type { JSONSchema7, LanguageModelV4CallOptions } from '@ai-sdk/provider';
import type { RpcError } from '../../../errors.ts';
import type { SettingWarning } from '../../../messages/turn-settings.ts';
import type { EngineTool, TurnInput } from '../../engine.ts';
import { toDeclaredTools } from '../../tools/earlier-tools.ts';

/** The tools of a request, as servers name them in a refusal. */
const TOOLS = /\b(?:tool|function)s?(?:[ -](?:use|call(?:ing|s)?|choice|param))?['"`]?/;
/** How servers refuse all tools, as opposed to one of them: Ollama, vLLM, llama.cpp, Gemini, LiteLLM, OpenRouter. */
const REFUSED: readonly RegExp[] = [
  /(?:not|n't) support (?:parameters: \[[^\]]*')?(?:any |the use of )?(?:tool|function)s?\b/i,
  new RegExp(`${TOOLS.source} (?:(?:is|are) )?(?:not (?:supported|enabled)|unsupported|requires? --)`, 'i'),
  /no endpoints found that support tool use/i,
];

export interface CallTools {
  /** What is still sent of them. */
  readonly current: Pick<LanguageModelV4CallOptions, 'tools'>;
  /** One where tools that the turn offers were left out. */
  readonly warnings: readonly SettingWarning[];
  /** Leaves out the tools if the model refuses all of them with this error; false if it refuses something else. */
  leaveOut(error: RpcError): boolean;
}

export function createCallTools(turn: Pick<TurnInput, 'messages' | 'tools'>): CallTools {
  const warnings: SettingWarning[] = [];
  const tools = {
    current: toCallTools(toDeclaredTools(turn)),
    warnings,
    leaveOut({ data: { status }, message }: RpcError): boolean {
      if (tools.current.tools === undefined || typeof status !== 'number' || status === 429) return false;
      if (!REFUSED.some((form) => form.test(message))) return false;
      tools.current = {};
      if ((turn.tools?.tools.length ?? 0) > 0) warnings.push({ setting: 'tools', message });
      return true;
    },
  };
  return tools;
}

/** Tools in the form of the SDK; an empty object without any. */
function toCallTools(tools: readonly EngineTool[]): Pick<LanguageModelV4CallOptions, 'tools'> {
  if (tools.length === 0) return {};
  return {
    tools: tools.map(({ name, description, inputSchema }) => ({
      type: 'function',
      name,
      ...(description !== undefined && { description }),
      inputSchema: isSchema(inputSchema) ? inputSchema : { type: 'object' },
    })),
  };
}

function isSchema(value: object): value is JSONSchema7 {
  return !Array.isArray(value);
}
