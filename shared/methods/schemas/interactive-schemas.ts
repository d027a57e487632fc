// Schemas that the interactive.* methods share.
import { z } from 'zod';

export const Columns = z.int().min(1).max(1000).describe('Width in characters; default: 80');
export const Rows = z.int().min(1).max(1000).describe('Height in lines; default: 24');
