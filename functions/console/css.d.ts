// esbuild turns imported style sheets into the page's own; to TypeScript they are nothing.
declare module '*.css';
