// esbuild bundles imported style sheets; for TypeScript such an import has no exports.
declare module '*.css';
