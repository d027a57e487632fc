// `node --import clock-shim.ts`: a process whose clock is wrong by SOAK_CLOCK_SKEW_MS milliseconds, wherever it looks.

const skewMs = Number(process.env.SOAK_CLOCK_SKEW_MS ?? 0);
const RealDate = Date;

globalThis.Date = new Proxy(RealDate, {
  construct: (target, args, newTarget) =>
    Reflect.construct(target, args.length === 0 ? [target.now() + skewMs] : args, newTarget),
  get: (target, name, receiver) => (name === 'now' ? () => target.now() + skewMs : Reflect.get(target, name, receiver)),
});
