// `node --import clock-shim.ts`: shifts every `Date` of a process by SOAK_CLOCK_SKEW_MS milliseconds. SIGUSR2 adds
// SOAK_CLOCK_STEP_MS to the shift (default: removes it).

let skewMs = Number(process.env.SOAK_CLOCK_SKEW_MS ?? 0);
const stepMs = Number(process.env.SOAK_CLOCK_STEP_MS ?? -skewMs);
process.on('SIGUSR2', () => {
  skewMs += stepMs;
});
const RealDate = Date;

globalThis.Date = new Proxy(RealDate, {
  construct: (target, args, newTarget) =>
    Reflect.construct(target, args.length === 0 ? [target.now() + skewMs] : args, newTarget),
  get: (target, name, receiver) => (name === 'now' ? () => target.now() + skewMs : Reflect.get(target, name, receiver)),
});
