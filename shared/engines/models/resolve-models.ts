// Chooses the engines of a prompt: that of its model, then those of its fallbacks.
import { type Issue, RpcError } from '../../errors.ts';
import type { Credential, Engine, Engines } from '../engine.ts';

export interface NamedModels {
  readonly model: string | undefined;
  readonly fallbacks: readonly string[];
  readonly credential: Credential | undefined;
}

export interface ResolvedModel {
  readonly engine: Engine;
  /** `provider/model` */
  readonly model: string;
}

/** Throws RpcError `invalid_params` for a model that cannot be called, or that is named twice. */
export function resolveModels(
  engines: Engines,
  { model, fallbacks, credential }: NamedModels,
): readonly [ResolvedModel, ...ResolvedModel[]] {
  const first = engines.resolve(model, credential);
  const names = [first.model];
  const others = fallbacks.map((name, index) => {
    const path = `fallbacks.${index}`;
    const known = names.indexOf(name);
    if (known === 0) throw refuse([{ path, message: `${name} is the model of the prompt already` }]);
    if (known > 0) throw refuse([{ path, message: `${name} is named twice` }]);
    names.push(name);
    try {
      return engines.resolve(name, credential);
    } catch (error) {
      throw error instanceof RpcError && error.reason === 'invalid_params' ? refuse(issuesAt(path, error)) : error;
    }
  });
  return [first, ...others];
}

function issuesAt(path: string, { message, data }: RpcError): readonly Issue[] {
  const issues: readonly Issue[] = Array.isArray(data.issues) ? data.issues : [{ path, message }];
  return issues.map((issue) => ({ path, message: issue.message }));
}

function refuse(issues: readonly Issue[]): RpcError {
  return new RpcError('invalid_params', { data: { issues } });
}
