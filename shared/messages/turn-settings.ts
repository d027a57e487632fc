// The settings of a turn, in the same words for every provider: what a caller can set, and the warning about a setting
// that the model does not support. Wire names, because they are also compared between repeated prompts.

/** How much a model reasons before it answers. */
export const REASONING = ['off', 'low', 'medium', 'high'] as const;

export interface TurnSettings {
  readonly temperature?: number | undefined;
  readonly top_p?: number | undefined;
  readonly max_output_tokens?: number | undefined;
  readonly stop?: readonly string[] | undefined;
  readonly seed?: number | undefined;
  readonly reasoning?: (typeof REASONING)[number] | undefined;
}

export type SettingName = keyof TurnSettings;

/** What was left out, or changed, and why. */
export interface SettingWarning {
  readonly setting: SettingName | 'output_schema' | 'tools';
  readonly message: string;
}

/** The settings that are given. */
export function namesOf(settings: TurnSettings | undefined): SettingName[] {
  const names: SettingName[] = ['temperature', 'top_p', 'max_output_tokens', 'stop', 'seed', 'reasoning'];
  return names.filter((name) => settings?.[name] !== undefined);
}

/** Warnings that `model` ignores all settings but `supported`. */
export function ignoredSettings(
  settings: TurnSettings | undefined,
  model: string,
  supported: readonly SettingName[] = [],
): readonly SettingWarning[] {
  return namesOf(settings)
    .filter((name) => !supported.includes(name))
    .map((setting) => ({ setting, message: `${model} does not support it` }));
}
