// The settings of a turn in the form of the AI SDK, and the warnings about those that a model does not support. The SDK
// contains the rules of its providers' models; a setting that the provider itself refuses is left out of the next call.
import type { LanguageModelV4CallOptions, SharedV4Warning } from '@ai-sdk/provider';
import type { RpcError } from '../../../errors.ts';
import type { OutputSchema } from '../../../json/output-schema.ts';
import { namesOf, type SettingName, type SettingWarning, type TurnSettings } from '../../../messages/turn-settings.ts';
import { toSchemaInstruction } from '../../answer-schema.ts';
import type { TurnInput } from '../../engine.ts';
import { clean } from '../../failures/provider-message.ts';

type CallSettings = Pick<
  LanguageModelV4CallOptions,
  'temperature' | 'topP' | 'maxOutputTokens' | 'stopSequences' | 'seed' | 'reasoning' | 'responseFormat'
>;

interface Names {
  /** The SDK's name of the setting. */
  readonly sdk: keyof CallSettings;
  /** Its member in the request. */
  readonly sent: RegExp;
  /** How providers name it in a refusal. */
  readonly refused: RegExp;
}

const NAMES: Readonly<Record<SettingName, Names>> = {
  temperature: { sdk: 'temperature', sent: /^temperature$/, refused: /\btemperature\b/i },
  top_p: { sdk: 'topP', sent: /^top_?p$/i, refused: /\btop_?p\b/i },
  max_output_tokens: {
    sdk: 'maxOutputTokens',
    sent: /^max_?(?:output_?)?tokens$/i,
    refused: /\bmax_?(?:output_?|completion_?)?tokens\b/i,
  },
  stop: { sdk: 'stopSequences', sent: /^stop/, refused: /\bstop(?:_?sequences)?\b/i },
  seed: { sdk: 'seed', sent: /^seed$/, refused: /\bseed\b/i },
  reasoning: {
    sdk: 'reasoning',
    sent: /^(?:reasoning|thinking|effort)/,
    refused: /\breasoning|\bthinking|\beffort\b/i,
  },
};
const REFUSED =
  /un(?:supported|known|recognized|expected)|not (?:supported|allowed|permitted)|does not support|cannot|invalid/i;
/** How they refuse a value that is not in the range of the model. */
const OUT_OF_RANGE =
  /deprecated|too (?:large|small|high|low|long|many)|range|supported values?|at (?:most|least)|must be|m(?:ax|in)imum/i;

/** How providers name the format of an answer in a refusal. */
const FORMAT =
  /response_?(?:mime_?type|format|schema)|response mime type|output_?(?:format|config|schema)|json[_ ]?schema|grammar/i;
/** The SDK's warnings about a schema of which it leaves out a part. */
const OF_FORMAT = /^(?:JSON Schema|responseFormat|providerOptions\.\w+\.structuredOutputMode)/;

/** The settings of one turn: what is still sent of them, and the warnings so far, one per setting. */
export interface Settings {
  /** The settings that are still sent. */
  readonly current: TurnSettings;
  toOptions(): CallSettings;
  /** The caller's instructions, with the schema of the answer if it cannot be sent otherwise. */
  toInstructions(given: string | undefined): string | undefined;
  toWarnings(): readonly SettingWarning[];
  /** Adds the SDK's warnings, and one for each setting that is missing in the body of the request. */
  warn(warnings: readonly SharedV4Warning[], body: unknown): void;
  /** Leaves out the setting that the provider refuses with this error; false if it refuses something else. */
  leaveOut(error: RpcError): boolean;
}

/** `label`: name of the provider. */
export function createSettings(
  { settings: given = {}, outputSchema }: Pick<TurnInput, 'settings' | 'outputSchema'>,
  label: string,
): Settings {
  const warnings = new Map<SettingWarning['setting'], SettingWarning>();
  let format = outputSchema && toFormat(outputSchema);
  const addWarning = (warning: SettingWarning): void => void warnings.set(warning.setting, warning);
  const settings: Settings & { current: TurnSettings } = {
    current: given,
    toOptions: () => ({
      ...toCallSettings(settings.current),
      ...(format !== undefined && { responseFormat: format }),
    }),
    toInstructions(instructions) {
      if (outputSchema === undefined || format !== undefined) return instructions;
      return [instructions, toSchemaInstruction(outputSchema)].filter((text) => text).join('\n\n');
    },
    toWarnings: () => [...warnings.values()],
    warn(found, body) {
      for (const warning of toWarnings(given, found, label)) addWarning(warning);
      for (const setting of missingSettings(settings.current, body)) {
        if (!warnings.has(setting)) addWarning({ setting, message: `${label} does not support it for this model` });
      }
    },
    leaveOut({ data, message }) {
      if (data.status !== 400 && data.status !== 422) return false;
      const setting = refusedSetting(settings.current, message);
      if (setting !== undefined) {
        settings.current = { ...settings.current, [setting]: undefined };
        addWarning({ setting, message });
        return true;
      }
      if (format === undefined || !FORMAT.test(message)) return false;
      format = undefined;
      addWarning({ setting: 'output_schema', message: `${message}. The schema is sent as an instruction instead` });
      return true;
    },
  };
  return settings;
}

function toFormat(schema: OutputSchema): NonNullable<CallSettings['responseFormat']> {
  return { type: 'json', name: 'output', schema: JSON.parse(JSON.stringify(schema)) };
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
    const setting = OF_FORMAT.test(warning.feature)
      ? 'output_schema'
      : namesOf(given).find((name) => NAMES[name].sdk === warning.feature);
    if (setting === undefined) return [];
    return [{ setting, message: clean(warning.details ?? '') || `${label} does not support it` }];
  });
}

/** The setting that a provider refuses with this message (HTTP 400); undefined if it refuses something else. */
function refusedSetting(sent: TurnSettings, message: string): SettingName | undefined {
  if (!REFUSED.test(message) && !OUT_OF_RANGE.test(message)) return undefined;
  return namesOf(sent).find((name) => NAMES[name].refused.test(message));
}

/** The SDK leaves out some settings without a warning. A model that cannot reason needs no setting to turn it off. */
function missingSettings(sent: TurnSettings, body: unknown): SettingName[] {
  const { generationConfig, output_config, ...members } = toRecord(body);
  const names = Object.keys({ ...members, ...toRecord(generationConfig), ...toRecord(output_config) });
  return namesOf(sent).filter(
    (setting) =>
      !(setting === 'reasoning' && sent.reasoning === 'off') && !names.some((name) => NAMES[setting].sent.test(name)),
  );
}

function toRecord(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? { ...value } : {};
}
