// MCP connections are shared by two instances over the embedded store.
import { createEmbeddedStore } from '../../../shared/store/embedded/embedded.ts';
import { mcpInstanceCases } from '../../cases/mcp-instances.cases.ts';

mcpInstanceCases('embedded store', (clock) => createEmbeddedStore({ path: ':memory:', clock }));
