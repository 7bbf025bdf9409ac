#include "../../includes.h"
