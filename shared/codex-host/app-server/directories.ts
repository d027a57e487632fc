// The names of the directories of app-servers.

/** Prefixes of directories of app-servers. Directories of a process that was killed are removed by the next process. */
export const PREFIXES = { home: 'home', template: 'template' };
