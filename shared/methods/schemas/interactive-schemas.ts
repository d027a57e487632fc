// Schemas that the interactive.* methods share.
import { z } from 'zod';

export const Columns = z.int().min(1).max(1000).describe('Width in characters; 80 when absent');
export const Rows = z.int().min(1).max(1000).describe('Height in lines; 24 when absent');
