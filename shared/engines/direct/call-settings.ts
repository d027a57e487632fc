// The settings of a turn in the form of the AI SDK, and the warnings about those that a model does not support. The SDK
// knows the rules of its providers' models; a setting that the provider itself refuses is left out of the next call.
import type { LanguageModelV4CallOptions, SharedV4Warning } from '@ai-sdk/provider';
import type { RpcError } from '../../errors.ts';
import { namesOf, type SettingName, type SettingWarning, type TurnSettings } from '../../turn-settings.ts';
import { clean } from '../provider-message.ts';

type CallSettings = Pick<
  LanguageModelV4CallOptions,
  'temperature' | 'topP' | 'maxOutputTokens' | 'stopSequences' | 'seed' | 'reasoning'
>;

/** The SDK's name of each setting, and how providers name it in a refusal. */
const NAMES: Readonly<Record<SettingName, { readonly sdk: keyof CallSettings; readonly refused: RegExp }>> = {
  temperature: { sdk: 'temperature', refused: /\btemperature\b/i },
  top_p: { sdk: 'topP', refused: /\btop_?p\b/i },
  max_output_tokens: { sdk: 'maxOutputTokens', refused: /\bmax_?(?:output_?|completion_?)?tokens\b/i },
  stop: { sdk: 'stopSequences', refused: /\bstop(?:_?sequences)?\b/i },
  seed: { sdk: 'seed', refused: /\bseed\b/i },
  reasoning: { sdk: 'reasoning', refused: /\breasoning|\bthinking|\beffort\b/i },
};
const REFUSED =
  /unsupported|not supported|does not support|unknown|unrecognized|unexpected|not allowed|not permitted|cannot|invalid/i;

/** The settings of one turn: what is still sent of them, and the warnings so far, one per setting. */
export interface Settings {
  toOptions(): CallSettings;
  readonly warnings: readonly SettingWarning[];
  warn(warnings: readonly SharedV4Warning[]): void;
  /** Leaves out the setting that the provider refuses with this error; false if it refuses something else. */
  leaveOut(error: RpcError): boolean;
}

/** `label`: name of the provider. */
export function createSettings(given: TurnSettings = {}, label: string): Settings {
  const warnings = new Map<SettingName, SettingWarning>();
  let sent = given;
  return {
    toOptions: () => toCallSettings(sent),
    get warnings() {
      return [...warnings.values()];
    },
    warn(found) {
      for (const warning of toWarnings(given, found, label)) warnings.set(warning.setting, warning);
    },
    leaveOut(error) {
      const isRefusal = error.data.status === 400 || error.data.status === 422;
      const setting = isRefusal ? refusedSetting(sent, error.message) : undefined;
      if (setting === undefined) return false;
      sent = { ...sent, [setting]: undefined };
      warnings.set(setting, { setting, message: error.message });
      return true;
    },
  };
}

function toCallSettings(settings: TurnSettings): CallSettings {
  const { temperature, top_p, max_output_tokens, stop, seed, reasoning } = settings;
  return {
    ...(temperature !== undefined && { temperature }),
    ...(top_p !== undefined && { topP: top_p }),
    ...(max_output_tokens !== undefined && { maxOutputTokens: max_output_tokens }),
    ...(stop !== undefined && stop.length > 0 && { stopSequences: [...stop] }),
    ...(seed !== undefined && { seed }),
    ...(reasoning !== undefined && { reasoning: reasoning === 'off' ? ('none' as const) : reasoning }),
  };
}

/** The SDK's warnings about settings that the caller has given. */
function toWarnings(
  given: TurnSettings,
  warnings: readonly SharedV4Warning[],
  label: string,
): readonly SettingWarning[] {
  return warnings.flatMap((warning): SettingWarning[] => {
    if (warning.type !== 'unsupported' && warning.type !== 'compatibility') return [];
    const setting = namesOf(given).find((name) => NAMES[name].sdk === warning.feature);
    if (setting === undefined) return [];
    return [{ setting, message: clean(warning.details ?? '') || `${label} does not support it` }];
  });
}

/** The setting that a provider refuses with this message (HTTP 400); undefined if it refuses something else. */
function refusedSetting(sent: TurnSettings, message: string): SettingName | undefined {
  if (!REFUSED.test(message)) return undefined;
  return namesOf(sent).find((name) => NAMES[name].refused.test(message));
}
