/*
 * memcheck.h
 *		Stands in for valgrind's header of this name when PostgreSQL is built
 *		for AddressSanitizer (t/sanitize --build).
 *
 * PostgreSQL compiled with USE_VALGRIND tells valgrind which bytes of its own
 * allocator's blocks are in use, and which pages its buffers may be looked at.
 * Here AddressSanitizer is told instead: without that it knows only whole
 * blocks of malloc(), and sees nothing of a palloc() written past or used after
 * pfree() or a reset of its context.
 *
 * Freed chunks need no word of their own, since PostgreSQL, with assertions,
 * wipes them and takes access away.  AddressSanitizer does not know undefined
 * from defined.
 */
#ifndef PROFIMPORT_MEMCHECK_H
#define PROFIMPORT_MEMCHECK_H

#include <sanitizer/asan_interface.h>

#define VALGRIND_MAKE_MEM_NOACCESS(addr, size) \
	__asan_poison_memory_region((addr), (size))
#define VALGRIND_MAKE_MEM_UNDEFINED(addr, size) \
	__asan_unpoison_memory_region((addr), (size))
#define VALGRIND_MAKE_MEM_DEFINED(addr, size) \
	__asan_unpoison_memory_region((addr), (size))

#define VALGRIND_MEMPOOL_ALLOC(context, addr, size) \
	__asan_unpoison_memory_region((addr), (size))
#define VALGRIND_MEMPOOL_CHANGE(context, oldaddr, newaddr, size) \
	__asan_unpoison_memory_region((newaddr), (size))
#define VALGRIND_MEMPOOL_FREE(context, addr)				((void) (context))
#define VALGRIND_MEMPOOL_TRIM(context, addr, size)			((void) (context))
#define VALGRIND_CREATE_MEMPOOL(context, redzones, zeroed)	((void) (context))
#define VALGRIND_DESTROY_MEMPOOL(context)					((void) (context))

#define VALGRIND_CHECK_MEM_IS_DEFINED(addr, size)			((void) 0)
#define VALGRIND_COUNT_ERRORS								0
#define VALGRIND_PRINTF(...)								((void) 0)

#endif							/* PROFIMPORT_MEMCHECK_H */
